// Promises: the example service's tables. accounts, entries and profiles move; settings stays on PostgreSQL.
// Invariants: balance = sum of the account's entries; entry_count = their number; last_op is one of them.

export const LEDGER_SCHEMA = `
  create table accounts (
    id bigint primary key,
    owner text not null,
    currency varchar(3) not null default 'EUR',
    balance numeric(20, 4) not null default 0,
    entry_count integer not null default 0 check (entry_count >= 0),
    last_op uuid,
    opened_at timestamptz not null default now()
  );
  create table entries (
    account_id bigint not null references accounts (id),
    op uuid not null,
    amount numeric(20, 4) not null check (amount <> 0),
    note text,
    booked_at timestamptz not null default now(),
    primary key (account_id, op)
  );
  create table profiles (
    account_id bigint not null references accounts (id) on delete cascade,
    kind text not null,
    revision integer not null default 0,
    data jsonb not null default '{}',
    seen_at timestamptz,
    credit_limit numeric(12, 4),
    token uuid,
    display_name text,
    photo bytea,
    tags integer[],
    note text,
    primary key (account_id, kind)
  );
  create table settings (
    name text primary key,
    value text not null
  );
`

/** Fills the tables with `accounts` accounts, two profiles each. Deterministic: no clock, no randomness. */
export function seedSql(accounts: number): string {
  return `
    insert into accounts (id, owner, opened_at)
      select n, 'Kontoinhaber Nº ' || n || ' — 残高', timestamptz '2026-01-01 00:00:00.123456+00' + n * interval '1 minute'
      from generate_series(1, ${accounts}) as n;
    insert into profiles (account_id, kind, data, seen_at, credit_limit, token, display_name, photo, tags, note)
      select n, kind,
        jsonb_build_object('n', n, 'nested', jsonb_build_array(1.10, null, 'ü', jsonb_build_object('deep', true))),
        timestamptz '2026-02-03 04:05:06.789012+00' + n * interval '1 second',
        1.10 + n, md5(n || kind)::uuid, 'Zoë ' || n || ' 👩‍💻', decode(md5(n::text), 'hex'), array[n, null, -n],
        case when n % 2 = 0 then 'note "' || n || '" \\ with {odd} text' end
      from generate_series(1, ${accounts}) as n, unnest(array['home', 'work']) as kind;
    insert into settings (name, value) values ('fee', '0.10');
  `
}
