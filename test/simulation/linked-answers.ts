// Promises: the leader's watch of the store, as the simulation runs it: in the network's own times.
import { slotsOnTarget } from '../../src/app/slots-on-target.ts'
import { type AnswerLimits, createTargetAnswers, type TargetAnswers } from '../../src/app/target-answers.ts'
import type { RoutingView } from '../../src/model/ownership.ts'
import type { Host } from './kernel.ts'
import { linkedTarget } from './linked-target.ts'
import { KEYS, type World } from './world.ts'

const LIMITS: AnswerLimits = {
  targetAnswerMs: 250,
  silentAnswerMs: 60,
  againMs: 20,
  lookMs: 80,
  looksMin: 2,
  staleMs: 800,
  hangingMax: 8,
}

export function linkedAnswers(world: World, host: Host, view: () => RoutingView): TargetAnswers {
  const onTarget = slotsOnTarget(view)
  const target = linkedTarget(world, host, 'watch')
  return createTargetAnswers({ target, key: KEYS[0]!, clock: world.kernel.clock(host), watched: () => onTarget() > 0 }, LIMITS)
}
