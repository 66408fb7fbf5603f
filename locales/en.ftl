# What a business reads, in English. zh-CN.ftl has the same keys with the same variables; a test compares them.
# Numbers arrive as numbers: they choose the plural form, and are shown grouped (1,234).

## Every report

total = Total
summary = Summary

## Tables

# Below the rows that a mail or a page shows.
more-rows = { $rows ->
    [one] and { $rows } more row
   *[other] and { $rows } more rows
}
more-rows-attached = { $rows ->
    [one] and { $rows } more row in the attachment
   *[other] and { $rows } more rows in the attachment
}
more-rows-partly-attached = { $rows ->
    [one] and { $rows } more row, { $attached } of them in the attachment
   *[other] and { $rows } more rows, { $attached } of them in the attachment
}
more-rows-in-file = { $rows ->
    [one] and { $rows } more row in { $file } of the report's folder
   *[other] and { $rows } more rows in { $file } of the report's folder
}
sheet-cut = These are the first { $shown } of { $all } rows.
sheet-cut-summed = These are the first { $shown } of { $all } rows. The formulas add up these rows only.
total-of-all = Total of all { $rows } rows

## Words of several tables

none = none
exceptions = Exceptions
item = Item
account = Account
accounts = Accounts
batches = Batches
points = Points
source = Source
age = Age
days = Days
entry = Entry
opening = Opening
corrections = Corrections
correction = correction
unreconciled-difference = Unreconciled difference

## Arrears

arrears-title = Arrears
arrears-headline = { $points ->
    [one] { $points } point
   *[other] { $points } points
} in arrears ({ $accounts ->
    [one] { $accounts } account
   *[other] { $accounts } accounts
})
arrears-headline-none = No accounts in arrears
arrears-headline-changes = ; { $new } new, { $cleared } cleared
arrears-headline-difference = ; unreconciled difference
arrears-points = Points in arrears (receivable)
arrears-accounts = Accounts in arrears
arrears-oldest = In arrears since, longest
arrears-new-accounts = New accounts since the last report
arrears-cleared-accounts = Cleared accounts since the last report
arrears-last-report = Last report

arrears-chart = Points in arrears by age
arrears-chart-description = One bar for each age of arrears; its height is the points in arrears.
arrears-ages = Arrears by age
arrears-ages-note = Calendar days since the account fell below zero.
arrears-age-week = 0-7 days
arrears-age-month = 8-30 days
arrears-age-quarter = 31-90 days
arrears-age-older = over 90 days
arrears-age-unknown = unknown

arrears-unexplained-text = { $accounts ->
    [one] The entries of { $accounts } account do not explain its arrears.
   *[other] The entries of { $accounts } accounts do not explain their arrears.
} See the table below. Next: `pointsd run reconciliation --full` names the rule that fails.
arrears-undated-text = { $accounts ->
    [one] { $accounts } account is in arrears, but none of its entries leads below zero.
   *[other] { $accounts } accounts are in arrears, but none of their entries leads below zero.
} Next: `pointsd run reconciliation --full` names the rule that fails.
arrears-difference-text = { $points ->
    [one] The arrears differ by { $points } point
   *[other] The arrears differ by { $points } points
} from the last report and the entries since: see “Unreconciled difference” in the roll-forward.
arrears-unexplained = Accounts with an unreconciled difference
arrears-expected = Expected
arrears-actual = Actual

arrears-owed = Arrears
arrears-since = Since
arrears-cause = Service
arrears-last-entry = Last entry
arrears-largest = Largest balances in arrears
arrears-all = All balances in arrears
arrears-all-in-file = These are the first { $shown } rows; { $file } in the report's folder has all of them.
arrears-all-not-in-file = These are the first { $shown } rows; `pointsd arrears --csv` lists the accounts in arrears at its time.

arrears-changes = Changes
arrears-first-report = This is the first report on arrears. The next one shows the changes since this one.
arrears-roll-forward = Arrears roll-forward
arrears-roll-forward-note = Since { $since }, when { $accounts ->
    [one] { $accounts } account was
   *[other] { $accounts } accounts were
} in arrears.
arrears-passing = { " " }{ $accounts ->
    [one] { $accounts } more account fell into arrears and cleared them in between.
   *[other] { $accounts } more accounts fell into arrears and cleared them in between.
}
arrears-opening = Opening: arrears in the last report
arrears-earlier-difference = Unreconciled difference of the last report
arrears-drawn = New arrears
arrears-repaid = Repaid
arrears-closing = Closing: arrears now

arrears-new = Accounts newly in arrears
arrears-new-none = No account fell into arrears.
arrears-cleared = Cleared accounts
arrears-cleared-none = No account cleared its arrears.
arrears-cleared-by = Cleared by
arrears-cleared-at = Cleared at
arrears-cleared-by-recharge = points issued ({ $source })
arrears-cleared-by-nothing = no entry

## Expiry

expiry-title = Expiry
expiry-headline = { $points ->
    [one] { $points } point
   *[other] { $points } points
} expired ({ $batches ->
    [one] { $batches } batch
   *[other] { $batches } batches
})
expiry-headline-none = No points expired
expiry-headline-due = ; { $points } due to expire within 30 days
expiry-headline-disproved = ; the entries disagree
expiry-headline-orphans = ; batches without an account
expiry-headline-overdue = ; overdue points not yet expired
expiry-headline-difference = ; unreconciled difference in the last forecast
expiry-points = Points expired
expiry-by-sweep = Nightly run
expiry-on-activity = On account activity
expiry-batches = Batches expired
expiry-accounts = Accounts in the nightly run
expiry-due-7 = Due to expire within 7 days
expiry-due-30 = Due to expire within 30 days
expiry-due-90 = Due to expire within 90 days
expiry-overdue = Overdue, not yet expired

expiry-disproved-text = The count of the nightly run disagrees with its entries: { $reason }.
expiry-orphans-text = { $accounts ->
    [one] Batches of { $accounts } missing account are due. They cannot expire and were left as they are.
   *[other] Batches of { $accounts } missing accounts are due. They cannot expire and were left as they are.
} Next: restore the rows of the accounts from a backup.
expiry-overdue-text = { $points ->
    [one] { $points } point
   *[other] { $points } points
} in { $batches ->
    [one] { $batches } batch
   *[other] { $batches } batches
} were due at this slot and are not yet expired: they were issued after the nightly run passed their account, or the run missed them. The next nightly run expires them; `pointsd run expiry` does it now. If they stay, `pointsd run reconciliation --full` names the rule that fails.
expiry-difference-text = The entries do not explain { $points ->
    [one] { $points } point
   *[other] { $points } points
} of the last forecast for { $day }: see “Unreconciled difference” in the last table. Rows of batches were changed without an entry. Next: `pointsd run reconciliation --full` names the batches.
expiry-differences-text = The entries do not explain { $points ->
    [one] { $points } point
   *[other] { $points } points
} of the last forecast from { $first } to { $last }: see “Unreconciled difference” in the last table. Rows of batches were changed without an entry. Next: `pointsd run reconciliation --full` names the batches.

expiry-expired = Points expired, by source
expiry-expired-note = Since the last report, { $since }. On account activity: points past their expiry expire when their account is next used, before the nightly run.
expiry-first-report = This is the first report. Points that expired earlier on account activity are not counted.
expiry-expired-none = No points were due.
expiry-orphans = Due batches without an account
expiry-outstanding = Unused points, by source
expiry-outstanding-note = Points due to expire if they are not used before.
expiry-outstanding-none = There are no unused points.
expiry-outstanding-points = Unused
expiry-within-7 = Within 7 days
expiry-within-30 = Within 30 days
expiry-within-90 = Within 90 days
expiry-chart = Unused points by week of expiry
expiry-chart-description = One bar for each week; its height is the points due to expire. Below it stands the day on which the week begins.
expiry-weeks = Points due to expire, by week
expiry-weeks-note = Weeks begin on Monday; the first is the rest of the current week.
expiry-week = Week of
expiry-later = later

expiry-forecast = Forecast and actual
expiry-forecast-first = There is no earlier forecast; the next report compares.
expiry-forecast-none = No day of the last forecast is over yet.
expiry-forecast-note = Forecast + issued since - used since + corrections = expired + overdue + unreconciled difference. Each row is what expires by that instant, after the row before.
expiry-forecast-not-over-note = { " " }The last row is what expired already of days that are not over; these are not compared yet.
expiry-forecast-not-over = days not over
expiry-by = Expires by
expiry-forecast-points = Forecast
expiry-issued-since = Issued since
expiry-used-since = Used since
expiry-expired-points = Expired
