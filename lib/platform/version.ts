import packageJson from '../../package.json' with { type: 'json' }

/** Caretaker's own version: what a backup's manifest names, and what /health says where APP_VERSION is not set. */
export const caretakerVersion = packageJson.version
