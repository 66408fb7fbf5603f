-- Requests, as an application would insert them; their ids come in the same order.
-- $1..$17: the columns, pairwise
INSERT INTO pointsd.requests (op, user_id, points, source, order_id, expires_at, source_type, source_id, duration, key,
                           description, at, of, beyond, until, paid, currency)
SELECT op, user_id, points, source, order_id, expires_at, source_type, source_id, duration, key, description,
       coalesce(at, now()), of, beyond, until, paid, currency
FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[], $8::text[],
            $9::numeric[], $10::text[], $11::text[], $12::timestamptz[], $13::text[], $14::text[], $15::timestamptz[], $16::bigint[],
            $17::text[]) WITH ORDINALITY
    AS n (op, user_id, points, source, order_id, expires_at, source_type, source_id, duration, key, description, at, of, beyond,
          until, paid, currency, nth)
ORDER BY nth
RETURNING id
