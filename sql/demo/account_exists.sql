-- Whether anybody has an account.
SELECT EXISTS (SELECT FROM pointsd.accounts)
