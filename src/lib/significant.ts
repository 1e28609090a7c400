// Promises: a number as people read it: rounded to so many digits that count, with its thousands apart and no exponent. Pure.

export function significant(value: number, digits: number): string {
  return new Intl.NumberFormat('en-US', { maximumSignificantDigits: digits }).format(value)
}
