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
