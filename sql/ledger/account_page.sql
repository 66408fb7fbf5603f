-- The users of accounts, in order; also of accounts that only another service had.
-- $1 uuid: after this one, or null; $2 bigint: at most so many
SELECT user_id
FROM (
    (SELECT a.user_id
     FROM unnest(pointsd.all_buckets()) AS n (bucket)
     CROSS JOIN LATERAL pointsd.next_users(n.bucket, $1::uuid, $2) AS a (user_id)
     ORDER BY a.user_id
     LIMIT $2)
    UNION
    (SELECT p.user_id
     FROM pointsd.adopted_positions AS p
     WHERE p.user_id >= coalesce($1::uuid, '00000000-0000-0000-0000-000000000000') AND ($1 IS NULL OR p.user_id > $1)
           AND EXISTS (SELECT FROM pointsd.adoption AS n WHERE n.only_one AND n.state <> 'planned')
     ORDER BY p.user_id
     LIMIT $2)
) AS known
ORDER BY user_id
LIMIT $2
