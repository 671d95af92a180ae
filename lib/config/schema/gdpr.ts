import * as z from 'zod/mini'
import { duration, name, table, url } from './primitives.ts'

const columnOfTable = z.string().check(z.regex(/^[^\s."]+(\.[^\s."]+){1,2}$/, 'expected "table.column" or "schema.table.column"'))
const processorName = z.string().check(z.regex(/^[a-z0-9][a-z0-9-]{0,40}$/, 'expected lower-case letters, digits and hyphens'))

/** What a column becomes in a row that stays: a constant, a keyed pseudonym, or something less precise. */
const replaced = z.union([
  z.string(),
  z.number(),
  z.boolean(),
  z.null(),
  /** The same value has the same pseudonym, and nobody without ENCRYPTION_KEY can tell or guess whose it is. For text. */
  z.strictObject({ pseudonym: z.literal(true) }),
  /** A date to its year, month or day; a text to its first characters; a number to steps of so much. */
  z.strictObject({
    generalise: z.union([
      z.enum(['year', 'month', 'day']),
      z.strictObject({ first: z.int().check(z.gte(1)) }),
      z.strictObject({ step: z.number().check(z.gt(0)) }),
    ]),
  }),
])
const overwritten = z.union([z.array(name), z.record(z.string(), replaced)])

const erase = z.union([
  z.literal('delete'),
  z.strictObject({ anonymise: overwritten }),
  /** Kept on a legal basis until a date; the named columns are emptied at once. */
  z.strictObject({ keep: name, until: duration, anonymise: z.optional(overwritten) }),
])

/** A column that names the person without a foreign key. */
const link = z.strictObject({
  column: name,
  to: z.optional(z.enum(['id', 'email', 'phone'])),
  /** Where in a JSON column: `user.id`, or `members[]` for any element of an array there. */
  path: z.optional(
    z.string().check(z.regex(/^(\[\]|[^\s.[\]]+(\.[^\s.[\]]+)*(\[\])?)$/, 'expected a path such as "user.id", "members[]" or "[]"')),
  ),
})

/** Third parties that can be asked for a person's data and told to erase it, by their own interfaces. */
export const processorNames = ['stripe', 'posthog', 'sendgrid', 'twilio', 'memberstack'] as const

const processor = z.union([
  z.enum(processorNames),
  z.strictObject({
    processor: z.enum(processorNames),
    /** Where the person's rows hold their id (or telephone number) there: `table.column`. Default: found by address or user id. */
    ids: z.optional(z.union([columnOfTable, z.array(columnOfTable)])),
  }),
  /** A service with an interface of its own: it gets signed calls. */
  z.strictObject({ name: processorName, url }),
  /** One that somebody has to ask by hand: the receipt and the event name it. */
  z.strictObject({ name: processorName, manual: name }),
])
export type ProcessorPolicy = z.output<typeof processor>

export const gdpr = z.strictObject({
  /** The table a person is a row of. `id` is its key column where it has no single-column primary key. */
  subject: z.strictObject({
    table,
    id: z.optional(name),
    email: z.optional(name),
    phone: z.optional(name),
    /** Further columns of that table by which text may name the person: an erasure looks for them everywhere. */
    identifiers: z.optional(z.array(name)),
  }),
  /** The schema's fingerprint when somebody last went through it: `gdpr lint` prints it, and fails when it has changed since. */
  reviewed: z.optional(z.string().check(z.regex(/^[0-9a-f]{16}$/, 'expected the 16 digits that `caretaker gdpr lint` prints'))),
  /** Whether an erasure ends by looking for the person in all text of the database. Default true. */
  residue: z.optional(z.boolean()),
  tables: z.optional(
    z.record(
      z.string(),
      z.strictObject({
        export: z.optional(z.union([z.boolean(), z.array(name)])),
        erase: z.optional(erase),
        /** Columns that name the person without a foreign key: by id, e-mail address or telephone number; alone, in an array, or inside JSON. */
        link: z.optional(z.union([link, z.array(link)])),
        /**
         * Columns with other people's data, which the export leaves blank (Art. 15(4)): `true` in every row, or the name of the
         * column that holds the person's id in the rows where the content is their own (`{ body: 'sender_id' }`).
         */
        redact: z.optional(z.record(z.string(), z.union([z.literal(true), name]))),
        /** Columns of free text in which other people may name the person: an erasure replaces the name there. */
        mentions: z.optional(z.array(name)),
        /** Columns that the person, or an operator for them, may have corrected (Art. 16). */
        rectify: z.optional(z.array(name)),
        /** Foreign-key columns that do not make a row the person's: the project a member was added to by its owner. */
        ignore: z.optional(z.array(name)),
      }),
    ),
  ),
  /** Who else holds data of the people: they are asked for an export, and told of an erasure (Art. 19). */
  processors: z.optional(
    z.array(processor).check(
      z.refine((list) => {
        const names = list.map((one) => (typeof one === 'string' ? one : 'processor' in one ? one.processor : one.name))
        return new Set(names).size === names.length
      }, 'expected each processor once'),
    ),
  ),
  /** What people are asked to agree to, by purpose: the text, and its version, which grows with every change of it. */
  consent: z.optional(z.record(processorName, z.strictObject({ version: name, text: name }))),
  /** Who answers for the data, for the register of processing activities. */
  controller: z.optional(z.strictObject({ name, contact: z.optional(name), dataProtectionOfficer: z.optional(name) })),
  /** What personal data is processed for (Art. 30): `gdpr register` makes the register from it. */
  activities: z.optional(
    z.array(
      z.strictObject({
        name,
        purpose: name,
        /** Such as "contract (Art. 6(1)(b))". */
        basis: name,
        tables: z.array(table),
        subjects: z.optional(name),
        /** Default: the processors. */
        recipients: z.optional(z.array(name)),
        /** To third countries, with the safeguards. */
        transfers: z.optional(name),
      }),
    ),
  ),
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
