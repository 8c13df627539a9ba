// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"fmt"
	"html"
	"html/template"
	"strings"
)

// Charts are drawn as SVG with classes for colours, so that the page's style
// decides how they look on a screen, in the dark and on paper. Every bar has
// its number beside it: colour never says what the text does not.

// part is one coloured piece of a bar.
type part struct {
	class string // live, served, reboot, error or none
	n     int
	word  string
}

// bar is one line of a chart.
type bar struct {
	label, sub string
	parts      []part
	note       string // behind the bar
}

const (
	chartWidth = 900
	labelWidth = 280
	noteWidth  = 150
	barHeight  = 18
	lineHeight = 28
)

// bars draws a horizontal bar chart. With whole, each bar fills the width and
// shows shares; else lengths are counts on a common scale.
func bars(title string, list []bar, whole bool) template.HTML {
	most := 1
	for _, b := range list {
		most = max(most, b.total())
	}
	var s strings.Builder
	height := lineHeight*len(list) + 4
	fmt.Fprintf(&s, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-label="%s">`, chartWidth, height, html.EscapeString(title))
	for i, b := range list {
		y := i*lineHeight + 4
		fmt.Fprintf(&s, `<text class="label" x="%d" y="%d" text-anchor="end">%s`, labelWidth-10, y+barHeight-4, html.EscapeString(b.label))
		if b.sub != "" {
			fmt.Fprintf(&s, `<title>%s</title>`, html.EscapeString(b.sub))
		}
		s.WriteString(`</text>`)
		scale := most
		if whole {
			scale = max(b.total(), 1)
		}
		x := float64(labelWidth)
		full := float64(chartWidth - labelWidth - noteWidth)
		for _, p := range b.parts {
			if p.n == 0 {
				continue
			}
			w := full * float64(p.n) / float64(scale)
			fmt.Fprintf(&s, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s: %d %s</title></rect>`,
				p.class, x, y, max(w, 1), barHeight, html.EscapeString(b.label), p.n, html.EscapeString(p.word))
			if digits := len(fmt.Sprint(p.n)); w > float64(digits*9+6) {
				fmt.Fprintf(&s, `<text class="in %s" x="%.1f" y="%d" text-anchor="middle">%d</text>`, p.class, x+w/2, y+barHeight-5, p.n)
			}
			x += w
		}
		fmt.Fprintf(&s, `<text class="note" x="%.1f" y="%d">%s</text>`, x+8, y+barHeight-4, html.EscapeString(b.note))
	}
	s.WriteString(`</svg>`)
	return template.HTML(s.String()) //nolint:gosec // every text in it was escaped
}

func (b bar) total() int {
	n := 0
	for _, p := range b.parts {
		n += p.n
	}
	return n
}

// tallyBar is a bar of verdicts on what the target has.
func tallyBar(label string, t Tally) bar {
	return bar{
		label: label,
		parts: []part{
			{"live", t.Live, "live"},
			{"served", t.Served, "reboot, or the fixed module where it is not loaded"},
			{"reboot", t.Reboot - t.Served, "reboot"},
			{"error", t.Failed, "without a verdict"},
		},
		note: fmt.Sprintf("%.1f %% of %d", t.Share(), t.Built()),
	}
}
