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
