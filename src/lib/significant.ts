// Promises: a number as people read it: rounded to so many digits that count, with its thousands apart and no exponent. Pure.

/** By digits: to make one costs as much as many numbers, and the judge tells some each second. */
const formats = new Map<number, Intl.NumberFormat>()

export function significant(value: number, digits: number): string {
  let format = formats.get(digits)
  if (format === undefined) {
    format = new Intl.NumberFormat('en-US', { maximumSignificantDigits: digits })
    formats.set(digits, format)
  }
  return format.format(value)
}
