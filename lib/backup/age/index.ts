export { AgeReader, decryptWith, parseIdentities } from './decrypt.ts'
export { encryptTo } from './encrypt.ts'
