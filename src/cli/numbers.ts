// Promises: numbers of the command line, checked once, with one clear sentence.
import { InvalidArgumentError } from 'commander'

export function portNumber(text: string): number {
  return wholeNumber(0, 65_535)(text)
}

export function wholeNumber(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isInteger(value) || value < from || value > to)
      throw new InvalidArgumentError(`Give a whole number from ${from} to ${to}.`)
    return value
  }
}

export function decimalNumber(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (text.trim() === '' || !Number.isFinite(value) || value < from || value > to)
      throw new InvalidArgumentError(`Give a number from ${from} to ${to}.`)
    return value
  }
}
