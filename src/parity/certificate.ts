// Promises: a parity result that can be shown to others: bound to epoch, LSN, ranges, counts, root digests and normaliser version,
// signed with Ed25519 (docs/reference/certificate.md). The text that is signed is JSON with sorted keys and no white space.
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { NORMALISER_VERSION } from '../model/parity.ts'
import type { ParityReport } from './compare.ts'

export interface CertificateBody {
  readonly format: 'switchback-parity-certificate/1'
  readonly migration: string
  readonly systemIdentifier: string
  readonly timeline: number
  readonly epoch: number
  readonly lsn: string
  readonly issuedAt: string
  readonly normaliserVersion: number
  readonly rowsCompared: number
  readonly differences: number
  readonly notChecked: ParityReport['notChecked']
  readonly tables: ParityReport['tables']
}

export interface Certificate {
  readonly body: CertificateBody
  /** PEM of the public key. */
  readonly publicKey: string
  /** Base64 of the Ed25519 signature over the canonical text of `body`. */
  readonly signature: string
}

export type CertificateFacts = Omit<
  CertificateBody,
  'format' | 'normaliserVersion' | 'rowsCompared' | 'differences' | 'notChecked' | 'tables'
>

export function issueCertificate(report: ParityReport, facts: CertificateFacts, privateKeyPem: string): Certificate {
  const { rowsCompared, differences, notChecked, tables } = report
  const body: CertificateBody = {
    ...facts,
    format: 'switchback-parity-certificate/1',
    normaliserVersion: NORMALISER_VERSION,
    rowsCompared,
    differences,
    notChecked,
    tables,
  }
  const key = createPrivateKey(privateKeyPem)
  return {
    body,
    publicKey: createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString(),
    signature: sign(null, Buffer.from(canonicalText(body), 'utf8'), key).toString('base64'),
  }
}

export function verifyCertificate(certificate: Certificate): boolean {
  const text = Buffer.from(canonicalText(certificate.body), 'utf8')
  return verify(null, text, createPublicKey(certificate.publicKey), Buffer.from(certificate.signature, 'base64'))
}

function canonicalText(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const record = value as Record<string, unknown>
    return `{${Object.keys(record)
      .sort()
      .map((key) => `${JSON.stringify(key)}:${canonicalText(record[key])}`)
      .join(',')}}`
  }
  return JSON.stringify(value)
}
