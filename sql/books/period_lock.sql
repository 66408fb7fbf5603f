-- Lets one transaction at a time close or reopen months, until it ends. The number is "periods" in ASCII. A lock of the table would need
-- rights that no other statement needs.
SELECT pg_advisory_xact_lock(x'00706572696f6473'::bigint)
