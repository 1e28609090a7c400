// Promises: what a planted bug is: a patch of the source that takes out, or turns round, one rule of the protocol. A patch whose text is
// not found exactly once is an error, so that no mutation dies unseen when the code moves.

export interface Edit {
  readonly file: string
  readonly find: string
  readonly put: string
}

export interface Mutation {
  readonly name: string
  /** The rule that is broken, as protocols.md has it. */
  readonly rule: string
  readonly edits: readonly Edit[]
}

export const one = (name: string, rule: string, file: string, find: string, put: string): Mutation => ({
  name,
  rule,
  edits: [{ file, find, put }],
})
