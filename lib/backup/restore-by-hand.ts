import type { Manifest } from './manifest.ts'

/** The objects in the order in which they are loaded. */
export function loadOrder(manifest: Pick<Manifest, 'objects'>): Manifest['objects'] {
  const order = ['roles', 'pre-data', 'data', 'large-objects', 'large-object-owners', 'sequences', 'post-data', 'settings'] as const
  return order.flatMap((kind) => manifest.objects.filter((object) => object.kind === kind))
}

/** RESTORE.md: how to get the data back without Caretaker. */
export function restoreNotes(manifest: Manifest): string {
  const encrypted = manifest.encryption.kind === 'age'
  const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0)
  return `# Restoring this backup by hand

Backup ${manifest.id} of the database "${manifest.database.name}" (PostgreSQL ${manifest.database.serverVersion}) as it was at
${manifest.createdAt}: ${manifest.tables.length} tables, ${rows} rows, ${manifest.sequences.length} sequences, ${manifest.largeObjects.count} large objects.

You need ${encrypted ? '`age` (https://age-encryption.org), ' : ''}\`zstd\`, \`psql\` of the server's version or newer${encrypted ? ', and the identity (the private key) of one of these recipients' : ''}:

${manifest.encryption.kind === 'age' ? manifest.encryption.recipients.map((recipient) => `- ${recipient}`).join('\n') : '- none: this backup is not encrypted'}

${signatureNotes(manifest)}
Make an empty database, put this folder on your disk, and run in it:

    sh restore.sh ${encrypted ? 'IDENTITY_FILE ' : ''}postgres://USER:PASSWORD@HOST/EMPTY_DATABASE

The script checks SHA256SUMS before it writes the first row, then loads roles, schema, rows, sequences, and last indexes,
constraints and triggers. Every object is SQL that psql runs as it is; to look at one:

    ${encrypted ? 'age -d -i IDENTITY_FILE' : 'cat'} OBJECT | zstd -d | less

Which data object holds which table is in manifest.json.
${filesNotes(manifest, encrypted)}
## What is not in it, and why

${manifest.leftOut.map((left) => `- ${left.what}: ${left.why}`).join('\n')}

## After the restore

- Roles that were missing have been made as they were, but without a password: \`alter role NAME password '…'\`.
- What of roles and settings could not be given was printed as a warning.
- Erasures of persons made after ${manifest.createdAt} are not in this backup: repeat them before the database is opened.
`
}

/** How to see who wrote it, before a line of it is run: whoever may write to the store could have put another script beside this text. */
function signatureNotes(manifest: Manifest): string {
  if ((manifest.signer ?? null) === null)
    return `## First: who wrote it?

Nobody can tell: this backup is not signed. Whoever may write to the store could have made it.
`
  return `## First: who wrote it?

Encryption hides what is in a backup; it does not say who made it. The signature does. Take the signer's public key from where you keep
it (the line "# signer: KEY" of your identity file, backup.signers in the policy), not from here, and run, with OpenSSH 8.1 or newer:

    printf 'caretaker ssh-ed25519 %s\\n' KEY > /tmp/allowed_signers
    ssh-keygen -Y verify -f /tmp/allowed_signers -I caretaker -n caretaker-backup -s SHA256SUMS.sig < SHA256SUMS
    sha256sum -c --quiet SHA256SUMS

The first must say "Good", the second nothing: then every file here, this one and restore.sh too, is as that signer wrote it. It claims to be
${manifest.signer}.
`
}

/** Where the files are, and how to get them out: `jq` reads the index. */
function filesNotes(manifest: Manifest, encrypted: boolean): string {
  const { files } = manifest
  if (files === undefined) return ''
  const open = encrypted ? 'age -d -i IDENTITY_FILE "$1" | zstd -dc' : 'zstd -dc "$1"'
  return `
## Files of Storage buckets

${files.count} files of the buckets ${files.buckets.join(', ')} are objects in the folder \`files/\` beside \`backups/\`, where several backups
share them. ${files.index} lists them, a JSON object a line: bucket, name, type, owner, and the object with the content, SHA-256
included. To write them all to the folder out/ (with \`jq\`):

    open() { ${open}; }
    open ${files.index} | jq -r 'select(.kind == "file") | [.object, .bucket, .name] | @tsv' |
      while IFS="$(printf '\\t')" read -r object bucket name; do
        mkdir -p "out/$bucket/$(dirname "$name")"
        open "../../$object" > "out/$bucket/$name" </dev/null
      done
`
}

/** restore.sh: POSIX, with nothing but sha256sum, age, zstd and psql. */
export function restoreScript(manifest: Manifest): string {
  const encrypted = manifest.encryption.kind === 'age'
  const sql = loadOrder(manifest)
  const open = encrypted ? 'age -d -i "$identity" "$1" | zstd -dcq' : 'zstd -dcq "$1"'
  return `#!/bin/sh
# Restores backup ${manifest.id} into an empty database. See RESTORE.md.
set -eu
${encrypted ? 'if [ $# -ne 2 ]; then echo "usage: sh restore.sh IDENTITY_FILE DATABASE_URL" >&2; exit 2; fi\nidentity=$1\ntarget=$2' : 'if [ $# -ne 1 ]; then echo "usage: sh restore.sh DATABASE_URL" >&2; exit 2; fi\ntarget=$1'}
for tool in ${encrypted ? 'age ' : ''}zstd psql; do
  command -v "$tool" >/dev/null || { echo "$tool is needed and not installed" >&2; exit 1; }
done
case $0 in */*) folder=\${0%/*} ;; *) folder=. ;; esac
${encrypted ? 'case $identity in /*) ;; *) identity=$PWD/$identity ;; esac\n' : ''}cd "$folder"

# Whom to believe: SIGNER in the environment${encrypted ? ', or the lines "# signer: KEY" of the identity file' : ''}. It says who wrote the rest; who wrote this script, only a check
# before it is run can say (see RESTORE.md).
state=$(mktemp)
trap 'rm -f "$state"' EXIT
printf '%s\\n' "\${SIGNER-}" | sed -n 's/^\\(ssh-ed25519 \\)*\\(AAAA[A-Za-z0-9+\\/]*\\).*$/caretaker ssh-ed25519 \\2/p' >"$state"
${
  encrypted
    ? `[ -s "$state" ] || sed -n 's/^# *signer: *\\(ssh-ed25519 \\)*\\(AAAA[A-Za-z0-9+\\/]*\\).*$/caretaker ssh-ed25519 \\2/p' "$identity" >"$state"
`
    : ''
}if [ ! -s "$state" ]; then
  echo "nobody is named who may have written this backup (SIGNER=KEY): taking it unseen" >&2
elif ! command -v ssh-keygen >/dev/null; then
  echo "ssh-keygen (OpenSSH 8.1 or newer) is needed to see who wrote this backup" >&2; exit 1
elif [ ! -f SHA256SUMS.sig ] || ! ssh-keygen -Y verify -f "$state" -I caretaker -n caretaker-backup -s SHA256SUMS.sig <SHA256SUMS >&2; then
  echo "this backup is not signed by whom you believe" >&2; exit 1
fi
echo "checking SHA256SUMS" >&2
if command -v sha256sum >/dev/null; then sha256sum -c --quiet SHA256SUMS; else shasum -a 256 -c -s SHA256SUMS; fi
tables=$(psql -XAtqd "$target" -c "select count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema'")
if [ "$tables" != 0 ]; then echo "the database already holds $tables tables; give an empty one" >&2; exit 1; fi

# Older servers do not know transaction_timeout, older psqls do not know \\restrict: there those lines are taken out.
filter=
version=$(psql -XAtqd "$target" -c 'show server_version_num')
if [ "$version" -lt 170000 ]; then filter='1,41{/^SET transaction_timeout = 0;$/d;};'; fi
if ! printf '%s\\n' '\\restrict k' '\\unrestrict k' | psql -Xqd "$target" -v ON_ERROR_STOP=1 >/dev/null 2>&1; then
  filter="$filter"'/^\\\\restrict ${manifest.restrictKey}$/d;/^\\\\unrestrict ${manifest.restrictKey}$/d'
fi

open() {
  ${open}
}
# Defaults of the role or the database must not end what takes long, nor forbid it. Each psql is a session of its own.
settings='set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; set default_transaction_read_only = off;'
# A failure anywhere in a pipe must stop the script; POSIX sh reports only the last command's.
load() {
  echo "loading $1" >&2
  : >"$state"
  { echo "$settings"; open "$1" || echo failed >"$state"; } | psql -Xqd "$target" -v ON_ERROR_STOP=1 >/dev/null
  if [ -s "$state" ]; then echo "$1 could not be opened" >&2; exit 1; fi
}
load_schema() {
  echo "loading $1" >&2
  : >"$state"
  { echo "$settings"; open "$1" || echo failed >"$state"; } | sed "$filter" | psql -Xqd "$target" -v ON_ERROR_STOP=1 >/dev/null
  if [ -s "$state" ]; then echo "$1 could not be opened" >&2; exit 1; fi
}
${sql.map((object) => `${object.kind === 'pre-data' || object.kind === 'post-data' ? 'load_schema' : 'load'} ${object.key}`).join('\n')}
psql -Xqd "$target" -v ON_ERROR_STOP=1 -c "$settings" -c analyze
echo "restored" >&2
`
}
