// Promises: what a user writes (arguments, configuration, files) and cannot be taken.
import type { ErrorEntry } from '../errors.ts'

export const EDGE_ERRORS = {
  LSN_INVALID: {
    kind: 'operator',
    sqlstate: '22023',
    message: 'not a log sequence number: "{text}"',
    remedy: 'Nothing was changed. Give an LSN as PostgreSQL prints it, like 0/16B3748.',
  },
  KEY_INVALID: {
    kind: 'client',
    sqlstate: '22P02',
    message: 'not a valid {type} partition key: "{text}"',
    remedy: 'Nothing was changed. Correct the value.',
  },
  CONFIG_INVALID: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the configuration {file} is not valid: {problem}',
    remedy: 'Nothing was changed. Correct the file and run the command again.',
  },
  PORT_UNAVAILABLE: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'cannot listen on {host}:{port} ({reason})',
    remedy: 'Nothing was changed. Free the port, or name another one in the configuration or with --port.',
  },
  SELECTION_INVALID: {
    kind: 'operator',
    sqlstate: '22023',
    message: 'which keys is not clear: {problem}',
    remedy: 'Nothing was changed. Correct the argument and run the command again.',
  },
  CONFIG_MISSING: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'there is no configuration at {file}',
    remedy: 'Nothing was changed. Run `switchback init` to write one, or name it with --config.',
  },
  SECRET_MISSING: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the environment variable {variable}, which the configuration names or goes by, is not set',
    remedy: 'Nothing was changed. Set it and run the command again.',
  },
  CONNECTION_STRING_INVALID: {
    kind: 'operator',
    sqlstate: 'F0000',
    message: 'the environment variable {variable} does not hold a connection string',
    remedy: 'Nothing was changed. Give it one like postgres://user:password@host:5432/database.',
  },
  USAGE: {
    kind: 'operator',
    sqlstate: '22023',
    message: '{problem}',
    remedy: 'Nothing was changed. Run the command with --help for its arguments and options.',
  },
  FILE_NOT_WRITTEN: {
    kind: 'operator',
    sqlstate: '58030',
    message: '{file} cannot be written: {reason}',
    remedy: '{left} Make room or give the right to write there, or name another place, then run the command again.',
  },
  FILE_UNREADABLE: {
    kind: 'operator',
    sqlstate: '58030',
    message: '{file} cannot be read: {reason}',
    remedy: 'Nothing was changed. Name another file, or give the right to read it.',
  },
  TRACE_INVALID: {
    kind: 'operator',
    sqlstate: '22P02',
    message: '{file} is no trace that can be judged: line {line}: {problem}',
    remedy:
      'Nothing was judged. Each line is one request: a JSON object with tMs, arm ("source" or "target"), statement, key, latencyMs and ok; see docs/operating/judge.md.',
  },
  EVIDENCE_INVALID: {
    kind: 'operator',
    sqlstate: '22P02',
    message: '{file} is no evidence that can be judged again: line {line}: {problem}',
    remedy: 'Nothing was judged. Export the evidence again; a file is judged whole or not at all.',
  },
  INTERRUPTED_READING: {
    kind: 'transient',
    sqlstate: '57014',
    message: 'stopped before {file} was read to its end',
    remedy: 'Nothing was changed. What was printed before holds for the part that was read. Run the command again.',
  },
  MOVE_BLOCKED: {
    kind: 'operator',
    sqlstate: '55000',
    message: 'the move cannot be made: {blockers}',
    remedy: 'Nothing was changed. Mend what each sentence names and run `switchback init` again.',
  },
} as const satisfies Record<string, ErrorEntry>
