// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
)

// The few styles there are, in the terminal's own sixteen colours so that
// they fit its theme. Colour never says what the text does not.
func Bold(s string) string { return render(lipgloss.NewStyle().Bold(true), s) }
func Dim(s string) string  { return render(lipgloss.NewStyle().Faint(true), s) }
func Good(s string) string { return render(lipgloss.NewStyle().Foreground(lipgloss.Green), s) }
func Bad(s string) string {
	return render(lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red), s)
}
func Warn(s string) string { return render(lipgloss.NewStyle().Foreground(lipgloss.Yellow), s) }

// render leaves an empty text empty, so that no line ends in codes and blanks.
func render(style lipgloss.Style, s string) string {
	if s == "" {
		return ""
	}
	return style.Render(s)
}

// Table lays rows out in columns two spaces apart, under a dim header if
// there is one. Columns named in right are aligned right.
func Table(header []string, rows [][]string, right ...int) string {
	if len(rows) == 0 {
		return ""
	}
	last := len(rows[0]) - 1
	tb := table.New().
		Border(lipgloss.Border{}).
		BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderHeader(false).BorderColumn(false).BorderRow(false).
		Wrap(false).
		StyleFunc(func(row, col int) lipgloss.Style {
			s := lipgloss.NewStyle()
			if col < last {
				s = s.PaddingRight(2)
			}
			if row == table.HeaderRow {
				s = s.Faint(true)
			}
			for _, r := range right {
				if r == col {
					s = s.AlignHorizontal(lipgloss.Right)
				}
			}
			return s
		}).
		Rows(rows...)
	if header != nil {
		tb = tb.Headers(header...)
	}
	return trimRight(tb.Render()) + "\n"
}

// Pairs lays out names and values, the names dim.
func Pairs(pairs ...[2]string) string {
	rows := make([][]string, 0, len(pairs))
	for _, p := range pairs {
		if p[1] != "" {
			rows = append(rows, []string{Dim(p[0]), p[1]})
		}
	}
	return Table(nil, rows)
}

// Flow joins words into lines of at most 100 columns behind a label; further
// lines are indented as far as the label is wide. Without words it is empty.
func Flow(label string, words []string, sep string) string {
	if len(words) == 0 {
		return ""
	}
	const columns = 100
	pad := strings.Repeat(" ", lipgloss.Width(label))
	var b strings.Builder
	b.WriteString(label)
	at := len(pad)
	for i, w := range words {
		if i < len(words)-1 {
			w += sep
		}
		if at+lipgloss.Width(w) > columns && at > len(pad) {
			b.WriteString("\n" + pad)
			at = len(pad)
		}
		b.WriteString(w)
		at += lipgloss.Width(w)
	}
	return trimRight(b.String()) + "\n"
}

// Indent moves every line of text to the right.
func Indent(text string, n int) string {
	pad := strings.Repeat(" ", n)
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			b.WriteString(pad)
		}
		b.WriteString(line)
	}
	return b.String()
}

func trimRight(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n")
}

// Size is a number of bytes for people, in powers of ten: "41.2 kB".
func Size(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000_000:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// Span is a duration for people: "0.31 s", "12.4 s", "2 min 5 s".
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	d = d.Round(time.Second)
	return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
}

// Count is a number with its noun: "1 function", "3 functions".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if s, ok := strings.CutSuffix(noun, "y"); ok && !strings.HasSuffix(s, "a") { // entries, but days
		return fmt.Sprintf("%d %sies", n, s)
	}
	if strings.HasSuffix(noun, "x") || strings.HasSuffix(noun, "ch") || strings.HasSuffix(noun, "ss") { // fixes, patches, processes
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
