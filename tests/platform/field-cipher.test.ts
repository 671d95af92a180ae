import { describe, expect, it } from 'vitest'
import { fieldCipher } from '../../lib/platform/field-cipher.ts'
import fc from '../support/fast-check.ts'

const cipher = fieldCipher('1f'.repeat(32))

describe('fieldCipher', () => {
  it('gives back what was sealed, never twice the same bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.array(fc.string()), (value, context) => {
        const sealed = cipher.seal(value, context)
        expect(new Uint8Array(cipher.open(sealed, context))).toEqual(value)
        expect(cipher.seal(value, context).equals(sealed)).toBe(false)
      }),
    )
  })

  it('does not open with any byte changed, cut off, in another place or with another key', () => {
    const sealed = cipher.seal(Buffer.from('a person'), ['inbox', 'stripe', 'evt_1'])
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
      expect(() => cipher.open(changed, ['inbox', 'stripe', 'evt_1'])).toThrow('cannot be read')
      expect(() => cipher.open(sealed.subarray(0, at), ['inbox', 'stripe', 'evt_1'])).toThrow('cannot be read')
    }
    expect(() => cipher.open(sealed, ['inbox', 'stripeevt_1'])).toThrow('another row')
    expect(() => fieldCipher('2f'.repeat(32)).open(sealed, ['inbox', 'stripe', 'evt_1'])).toThrow('another ENCRYPTION_KEY')
  })

  it('tags equal values alike, for one purpose and one key', () => {
    expect(cipher.tag('object', 'cus_1')).toEqual(cipher.tag('object', 'cus_1'))
    expect(cipher.tag('object', 'cus_1')).toHaveLength(16)
    for (const other of [
      cipher.tag('object', 'cus_2'),
      cipher.tag('customer', 'cus_1'),
      fieldCipher('2f'.repeat(32)).tag('object', 'cus_1'),
    ])
      expect(cipher.tag('object', 'cus_1').equals(other)).toBe(false)
  })
})
