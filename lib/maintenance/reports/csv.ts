/** A column of a result: its name and the OID of its type. */
export interface ReportColumn {
  name: string
  typeOid: number
}

/** int2, int4, int8, float4, float8, numeric, oid, money, bool, and times: their text is the server's, never a person's. */
const safeTypes = new Set([21, 23, 20, 700, 701, 1700, 26, 790, 16, 1082, 1083, 1114, 1184, 1186, 1266, 2950])

/**
 * What a spreadsheet would take for a formula: https://owasp.org/www-community/attacks/CSV_Injection. A plain number is
 * none, whatever its type.
 */
const formula = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/
const plainNumber = /^[+-]?\d+(\.\d+)?$/

export interface CsvOptions {
  /**
   * Leave values that look like formulas as they are. Otherwise they get an apostrophe, by which a spreadsheet shows
   * them as text: rows of a report may hold what strangers typed.
   */
  raw?: boolean
}

/** One record, RFC 4180: fields quoted where they must be, CRLF. Null is an empty field and an empty text is `""`. */
function csvRecord(cells: readonly (string | null)[]): string {
  // A lone null would be an empty line, which readers take for none.
  if (cells.length === 1 && cells[0] === null) return '""\r\n'
  return `${cells.map((cell) => (cell === null ? '' : cell === '' || /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join(',')}\r\n`
}

/** The header. A lone empty name is quoted like any other empty text. */
export function csvHeader(columns: readonly ReportColumn[], options: CsvOptions = {}): string {
  return csvRecord(columns.map(({ name }) => (options.raw === true ? name : defused(name))))
}

/** One row, as the server wrote its values. */
export function csvRow(columns: readonly ReportColumn[], values: readonly (string | null)[], options: CsvOptions = {}): string {
  return csvRecord(
    values.map((value, index) =>
      value === null || options.raw === true || safeTypes.has(columns[index]?.typeOid ?? 0) ? value : defused(value),
    ),
  )
}

function defused(text: string): string {
  return formula.test(text) && !plainNumber.test(text) ? `'${text}` : text
}
