-- Closes business days.
-- $1..$14: the columns, pairwise
INSERT INTO pointsd.days (day, source, ended, opening, opened, recharged, refunded, settled, consumed, voided, expired, restored,
                          adjusted, closing)
SELECT * FROM unnest($1::date[], $2::text[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
