// Promises: what is moved: tables, columns, which column partitions and which ones cluster. Made once from the live catalog.

/** Types whose text form round-trips exactly (INV-12), after canonicalText where PostgreSQL accepts several texts. */
export const SCALAR_TYPES = [
  'bool',
  'int2',
  'int4',
  'int8',
  'float4',
  'float8',
  'numeric',
  'text',
  'varchar',
  'bpchar',
  'uuid',
  'json',
  'jsonb',
  'bytea',
  'date',
  'time',
  'timestamp',
  'timestamptz',
  'interval',
] as const
export type ScalarType = (typeof SCALAR_TYPES)[number]
/** An array type is its element's name and `[]`. */
export type ColumnType = ScalarType | `${ScalarType}[]`

/** Types that may be a partition key: equal values have one canonical text (protocols.md, Aggregates). */
export const KEY_TYPES = ['int2', 'int4', 'int8', 'uuid', 'text', 'varchar'] as const
export type KeyType = (typeof KEY_TYPES)[number]

export interface ColumnMapping {
  readonly name: string
  readonly type: ColumnType
  readonly typeOid: number
  /** pg_attribute.atttypmod; -1 where none. numeric(p,s) and varchar(n) are checked by it. */
  readonly typmod: number
  readonly notNull: boolean
  /** SQL text of the default expression, or null. */
  readonly defaultExpr: string | null
  readonly identity: 'always' | 'by default' | null
  /** SQL text of the expression of a stored generated column, or null. */
  readonly generatedExpr: string | null
}

export interface CheckConstraint {
  readonly name: string
  /** As pg_get_constraintdef prints it, without CHECK and the outer parentheses. */
  readonly expr: string
}

/** A foreign key whose both ends lie in one aggregate: its columns contain the partition key of both tables. */
export interface ForeignKey {
  readonly name: string
  readonly columns: readonly number[]
  readonly references: TableName
  readonly referencedColumns: readonly number[]
  readonly onDelete: 'no action' | 'restrict' | 'cascade' | 'set null' | 'set default'
  readonly onUpdate: 'no action' | 'restrict' | 'cascade' | 'set null' | 'set default'
}

/** A unique key that contains the partition key, other than the primary key. */
export interface UniqueKey {
  readonly name: string
  readonly columns: readonly number[]
}

/** `schema.table`, unquoted. */
export type TableName = string

export interface TableMapping {
  readonly name: TableName
  readonly schema: string
  readonly table: string
  readonly relationOid: number
  readonly primaryKeyName: string
  readonly columns: readonly ColumnMapping[]
  /** Index of the partition key column; it is part of the primary key. */
  readonly partition: number
  /** Indexes of the other primary key columns, in key order; may be empty. */
  readonly clustering: readonly number[]
  readonly checks: readonly CheckConstraint[]
  readonly foreignKeys: readonly ForeignKey[]
  readonly uniqueKeys: readonly UniqueKey[]
  /** Name of the table on the target. */
  readonly targetName: string
}

export interface Mapping {
  /** Name of the move; prefixes what is made for it (slot, publication, target's own tables). */
  readonly migration: string
  readonly keyType: KeyType
  readonly tables: readonly TableMapping[]
}

export function tableOf(mapping: Mapping, name: TableName): TableMapping | undefined {
  return mapping.tables.find((table) => table.name === name)
}
