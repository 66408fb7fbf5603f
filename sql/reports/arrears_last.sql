-- What the last report on arrears closed with.
SELECT as_of, accounts, owed, booked FROM pointsd.arrears_closing
