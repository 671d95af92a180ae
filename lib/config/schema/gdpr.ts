import * as z from 'zod/mini'
import { duration, name, table } from './primitives.ts'

const erase = z.union([
  z.literal('delete'),
  z.strictObject({ anonymise: z.union([z.array(name), z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))]) }),
  /** Kept on a legal basis until a date; the named columns are emptied at once. */
  z.strictObject({ keep: name, until: duration, anonymise: z.optional(z.array(name)) }),
])

export const gdpr = z.strictObject({
  /** The table a person is a row of. `id` is its key column where it has no single-column primary key. */
  subject: z.strictObject({ table, id: z.optional(name), email: z.optional(name) }),
  tables: z.optional(
    z.record(
      z.string(),
      z.strictObject({
        export: z.optional(z.union([z.boolean(), z.array(name)])),
        erase: z.optional(erase),
        /** A column that names the person without a foreign key: an id, or an e-mail address. */
        link: z.optional(z.strictObject({ column: name, to: z.optional(z.enum(['id', 'email'])) })),
        /** Foreign-key columns that do not make a row the person's: the project a member was added to by its owner. */
        ignore: z.optional(z.array(name)),
      }),
    ),
  ),
  processors: z.optional(z.array(name)),
  /** How requests are handled. */
  requests: z.optional(
    z.strictObject({
      /** How long a person can take their own erasure back. Default: it begins at once. */
      grace: z.optional(duration),
      /** Whether an operator must approve what a person asks for before it is carried out. Default false. */
      review: z.optional(z.boolean()),
      /** How long ago the person may have signed in when they ask to be erased. Default "10 minutes". */
      freshSignIn: z.optional(duration),
      /** How long the file of an export can be fetched. Default "7 days". */
      exportFile: z.optional(duration),
    }),
  ),
  /** Days until the answer is due are a calendar month by law (Art. 12(3)); nothing to configure. */
  buckets: z.optional(z.array(z.strictObject({ bucket: name, prefix: name }))),
})
