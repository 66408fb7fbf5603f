# 业务方阅读的中文文本。键与变量须与 en.ftl 完全一致，由测试核对。

## 所有报告

total = 合计
summary = 摘要

## 表格

more-rows = 另有 { $rows } 行
more-rows-attached = 另有 { $rows } 行，见附件
more-rows-partly-attached = 另有 { $rows } 行，其中 { $attached } 行见附件
more-rows-in-file = 另有 { $rows } 行，见报告目录中的 { $file }
sheet-cut = 此表仅列出 { $all } 行中的前 { $shown } 行。
sheet-cut-summed = 此表仅列出 { $all } 行中的前 { $shown } 行，公式仅对这些行求和。
total-of-all = 全部 { $rows } 行合计

## 多个表格共用的词

none = 无
exceptions = 差异事项
item = 项目
account = 账户
accounts = 账户数
batches = 批次数
points = 积分
source = 来源
age = 账龄
days = 天数
entry = 分录号
opening = 期初
corrections = 更正
correction = 更正
unreconciled-difference = 未调节差额

## 欠费报告

arrears-title = 欠费报告
arrears-headline = 欠费 { $points } 积分（{ $accounts } 个账户）
arrears-headline-none = 没有欠费账户
arrears-headline-changes = ；新增 { $new } 个，结清 { $cleared } 个
arrears-headline-difference = ；存在未调节差额
arrears-points = 欠费积分（应收）
arrears-accounts = 欠费账户
arrears-oldest = 最早欠费时间
arrears-new-accounts = 较上次新增账户
arrears-cleared-accounts = 较上次结清账户
arrears-last-report = 上次报告时间

arrears-chart = 欠费积分（按账龄）
arrears-chart-description = 每个账龄区间一根柱，高度为该区间的欠费积分。
arrears-ages = 欠费账龄
arrears-ages-note = 自账户余额转负之日起的自然日。
arrears-age-week = 0-7 天
arrears-age-month = 8-30 天
arrears-age-quarter = 31-90 天
arrears-age-older = 90 天以上
arrears-age-unknown = 未知

arrears-unexplained-text = { $accounts } 个账户的欠费与其分录不符，明细见下表。下一步：运行 `pointsd run reconciliation --full`，查明未通过的核对规则。
arrears-undated-text = { $accounts } 个欠费账户没有使余额转负的分录，无法确定欠费起始时间。下一步：运行 `pointsd run reconciliation --full`，查明未通过的核对规则。
arrears-difference-text = 当前欠费与上次报告及其后分录相差 { $points } 积分，见欠费变动表中的“未调节差额”。
arrears-unexplained = 存在未调节差额的账户
arrears-expected = 应欠
arrears-actual = 实欠

arrears-owed = 欠费积分
arrears-since = 欠费起始
arrears-cause = 使用项目
arrears-last-entry = 最近分录
arrears-largest = 欠费最多的账户
arrears-all = 全部欠费账户
arrears-all-in-file = 此处列出前 { $shown } 行；完整清单见报告目录中的 { $file }。
arrears-all-not-in-file = 此处列出前 { $shown } 行；完整清单可用 `pointsd arrears --csv` 实时导出。

arrears-changes = 变动
arrears-first-report = 这是第一份欠费报告，自下一份起列示期间变动。
arrears-roll-forward = 欠费变动表
arrears-roll-forward-note = 自 { $since } 起，当时有 { $accounts } 个账户欠费。
arrears-passing = 期间另有 { $accounts } 个账户欠费后已结清。
arrears-opening = 期初：上次报告欠费
arrears-earlier-difference = 上次报告的未调节差额
arrears-drawn = 新增欠费
arrears-repaid = 偿还
arrears-closing = 期末：当前欠费

arrears-new = 新增欠费账户
arrears-new-none = 没有新增欠费账户。
arrears-cleared = 已结清账户
arrears-cleared-none = 没有结清欠费的账户。
arrears-cleared-by = 结清方式
arrears-cleared-at = 结清时间
arrears-cleared-by-recharge = 发放（{ $source }）
arrears-cleared-by-nothing = 没有对应的分录

## 积分过期报告

expiry-title = 积分过期报告
expiry-headline = { $points } 积分已过期（{ $batches } 个批次）
expiry-headline-none = 没有积分过期
expiry-headline-due = ；未来 30 天将到期 { $points } 积分
expiry-headline-disproved = ；与分录不符
expiry-headline-orphans = ；存在无账户的批次
expiry-headline-overdue = ；有已到期未处理的积分
expiry-headline-difference = ；上次预测存在未调节差额
expiry-points = 过期积分
expiry-by-sweep = 每晚过期处理
expiry-on-activity = 账户交易时过期
expiry-batches = 过期批次
expiry-accounts = 每晚过期处理涉及账户
expiry-due-7 = 未来 7 天将到期
expiry-due-30 = 未来 30 天将到期
expiry-due-90 = 未来 90 天将到期
expiry-overdue = 已到期未处理

expiry-disproved-text = 每晚过期处理的计数与其分录不符：{ $reason }。
expiry-orphans-text = 有 { $accounts } 个不存在的账户名下仍有到期批次，无法作过期处理，已原样保留。下一步：从备份恢复这些账户的记录。
expiry-overdue-text = 有 { $batches } 个批次共 { $points } 积分在计划时间已到期，但尚未处理：在过期处理之后才入账，或被遗漏。下一次过期处理将使其过期，也可立即运行 `pointsd run expiry`；如仍存在，请运行 `pointsd run reconciliation --full`，查明未通过的核对规则。
expiry-difference-text = 上次预测中截至 { $day } 到期的积分，有 { $points } 积分没有对应分录，见末表“未调节差额”。批次数据曾在没有分录的情况下被改动。下一步：运行 `pointsd run reconciliation --full`，查明相关批次。
expiry-differences-text = 上次预测中 { $first } 至 { $last } 到期的积分，有 { $points } 积分没有对应分录，见末表“未调节差额”。批次数据曾在没有分录的情况下被改动。下一步：运行 `pointsd run reconciliation --full`，查明相关批次。

expiry-expired = 过期积分（按来源）
expiry-expired-note = 自上次报告（{ $since }）起。账户交易时过期：账户发生交易时，其已到期的积分先行过期，不待每晚过期处理。
expiry-first-report = 这是第一份报告，此前账户交易时过期的积分未计入。
expiry-expired-none = 没有到期的积分。
expiry-orphans = 无账户的到期批次
expiry-outstanding = 未使用积分（按来源）
expiry-outstanding-note = 将到期数为在此之前未被使用的情况下将过期的积分。
expiry-outstanding-none = 没有未使用积分。
expiry-outstanding-points = 未使用
expiry-within-7 = 7 天内到期
expiry-within-30 = 30 天内到期
expiry-within-90 = 90 天内到期
expiry-chart = 未使用积分（按到期周）
expiry-chart-description = 每周一根柱，高度为该周将到期的积分，下方为该周起始日。
expiry-weeks = 将到期积分（按周）
expiry-weeks-note = 每周自周一起算，首行为本周剩余部分。
expiry-week = 起始日
expiry-later = 更晚

expiry-forecast = 预测与实际
expiry-forecast-first = 此前没有预测，自下一份报告起比较。
expiry-forecast-none = 上次预测的各日均未结束，暂无可比数据。
expiry-forecast-note = 预测 + 其后发放 - 其后使用 + 更正 = 过期 + 已到期未处理 + 未调节差额。每行为上一行之后至该时刻到期的积分。
expiry-forecast-not-over-note = 末行为尚未结束的日期中已经过期的积分，这些日期暂不比较。
expiry-forecast-not-over = 未结束的日期
expiry-by = 到期截止
expiry-forecast-points = 预测
expiry-issued-since = 其后发放
expiry-used-since = 其后使用
expiry-expired-points = 过期
