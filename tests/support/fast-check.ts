import fc from 'fast-check'

/**
 * fast-check, whose properties draw the same values in every run: a run that fails is a change that broke something, and fails again.
 * PROPERTY_SEED=$RANDOM looks further than that.
 */
fc.configureGlobal({ seed: Number(process.env.PROPERTY_SEED ?? 20261121) })

export default fc
