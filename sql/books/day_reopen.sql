-- Opens business days again that have not ended: they were closed while the server's clock was ahead.
DELETE FROM pointsd.days WHERE ended > clock_timestamp()
