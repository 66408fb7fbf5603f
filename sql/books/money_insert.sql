-- Writes the money of business days that are closed.
-- $1..$11: the columns, pairwise
INSERT INTO pointsd.day_money (day, currency, source, opening, opened, sold, used, expired, returned, corrected, closing)
SELECT * FROM unnest($1::date[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
                     $9::bigint[], $10::bigint[], $11::bigint[])
