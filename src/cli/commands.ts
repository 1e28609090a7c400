// Promises: the commands, in the order in which `switchback --help` and the documentation list them.
import type { Command } from 'commander'
import { backfillCommand } from './backfill.ts'
import { canaryCommand } from './canary.ts'
import { controllerCommand } from './controller.ts'
import { demoCommand } from './demo.ts'
import { finalizeCommand } from './finalize.ts'
import { gatewayCommand } from './gateway.ts'
import { initCommand } from './init.ts'
import { judgeCommand } from './judge.ts'
import { parityCommand } from './parity.ts'
import { poisonCommand } from './poison.ts'
import { readonlyCommand } from './readonly.ts'
import { reconcileCommand } from './reconcile.ts'
import { rollbackCommand } from './rollback.ts'
import { statusCommand } from './status.ts'
import { uninstallCommand } from './uninstall.ts'
import { upCommand } from './up.ts'

export const COMMANDS: readonly (() => Command)[] = [
  initCommand,
  gatewayCommand,
  controllerCommand,
  upCommand,
  backfillCommand,
  canaryCommand,
  rollbackCommand,
  judgeCommand,
  readonlyCommand,
  parityCommand,
  poisonCommand,
  statusCommand,
  reconcileCommand,
  finalizeCommand,
  uninstallCommand,
  demoCommand,
]
