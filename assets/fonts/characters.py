"""Prints the characters that the subset keeps: Latin, punctuation, signs, and GB 2312."""
kept = [*range(0x20, 0x7F), *range(0xA0, 0x180), *range(0x2010, 0x2028), *range(0x2030, 0x203C), 0x20AC, 0x2103, 0x2116,
        0x2122, *range(0x2190, 0x219A), 0x2211, 0x2212, 0x221E, 0x2248, *range(0x2260, 0x2266), 0xFFE5, 0xFFFD]
for row in range(0xA1, 0xF8):
    for cell in range(0xA1, 0xFF):
        try:
            kept.append(ord(bytes([row, cell]).decode("gb2312")))
        except UnicodeDecodeError:
            pass
print(",".join(f"{code:04X}" for code in sorted(set(kept))))
