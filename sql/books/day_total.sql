-- Sums the movements of all closed days by source, with what the last of them closed with and when it ended.
SELECT d.source, pointsd.clamp_bigint(sum(d.opened)) AS opened, pointsd.clamp_bigint(sum(d.recharged)) AS recharged, pointsd.clamp_bigint(sum(d.refunded)) AS refunded,
       pointsd.clamp_bigint(sum(d.settled)) AS settled, pointsd.clamp_bigint(sum(d.consumed)) AS consumed,
       pointsd.clamp_bigint(sum(d.voided)) AS voided, pointsd.clamp_bigint(sum(d.expired)) AS expired,
       pointsd.clamp_bigint(sum(d.restored)) AS restored, pointsd.clamp_bigint(sum(d.adjusted)) AS adjusted,
       coalesce(max(d.closing) FILTER (WHERE d.day = last.day), 0) AS closing, max(last.ended) AS ended
FROM pointsd.days AS d, (SELECT day, ended FROM pointsd.days ORDER BY day DESC LIMIT 1) AS last
GROUP BY d.source
