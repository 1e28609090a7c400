// Promises: PostgreSQL's own error, to be shown as it is.

export class ServerError extends Error {
  override readonly name = 'ServerError'
  readonly body: Buffer

  constructor(body: Buffer) {
    super('an error of PostgreSQL')
    this.body = body
  }
}
