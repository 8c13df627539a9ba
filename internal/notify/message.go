// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Message is what goes out, made once: attempts that are repeated carry the
// very same words under the same id.
type Message struct {
	ID      string `json:"id"` // receivers know repeats by it
	Subject string `json:"subject"`
	// Thread is the same for all messages about one thing; "" for digests.
	Thread string    `json:"thread,omitempty"`
	Time   time.Time `json:"time"`
	Text   string    `json:"text"` // lines for people
	Body   []byte    `json:"body"` // JSON for programs
}

const (
	maxSubject = 200
	maxLine    = 500
	maxFacts   = 50
)

// Of makes the message of one event. held is how often the same was kept back
// before it, base the console's URL.
func Of(c Channel, e Event, held int, base string) Message {
	title := oneLine(e.Title, maxLine)
	var text strings.Builder
	text.WriteString(title + "\n")
	facts(&text, e)
	if held > 0 {
		fmt.Fprintf(&text, "\nThe same happened %s more since it was last told.\n", times(held))
	}
	if link := link(base, e.Path); link != "" {
		text.WriteString("\n" + link + "\n")
	}
	w := wire(e, base)
	w.Held = held
	return Message{
		ID: id("m", c.ID, e.ID), Subject: oneLine("["+label(e)+"] "+title, maxSubject), Thread: id("t", c.ID, e.Subject),
		Time: e.Time, Text: text.String() + footer(c), Body: body(string(e.Kind), e.Time, "["+label(e)+"] "+text.String(), w),
	}
}

// Gathered makes the message of what was kept: what is most severe first, and of
// that the newest. more counts, by kind, what found no room.
func Gathered(c Channel, events []Event, more map[Kind]int, base string, now time.Time) Message {
	events = slices.Clone(events)
	slices.SortStableFunc(events, func(a, b Event) int {
		return cmp.Or(cmp.Compare(weight(b), weight(a)), b.Time.Compare(a.Time))
	})
	var text strings.Builder
	var in digestWire
	ids := []string{"d", c.ID}
	count := map[string]int{}
	for _, e := range events {
		if n := count[label(e)]; n == 0 {
			text.WriteString("\n" + strings.ToUpper(label(e)) + "\n")
		}
		count[label(e)]++
		fmt.Fprintf(&text, "\n%s  %s\n", e.Time.UTC().Format("2006-01-02 15:04 UTC"), oneLine(e.Title, maxLine))
		if link := link(base, e.Path); link != "" {
			text.WriteString("  " + link + "\n")
		}
		ids = append(ids, e.ID)
		in.Events = append(in.Events, wire(e, base))
	}
	total := len(events)
	for _, k := range slices.Sorted(maps.Keys(more)) {
		if in.More == nil {
			in.More = more
			text.WriteString("\nAND MORE\n\n")
		}
		info, _ := Lookup(k)
		fmt.Fprintf(&text, "%6d × %s\n", more[k], cmp.Or(info.Title, string(k)))
		total += more[k]
		count[string(cmp.Or(info.Severity, Info))] += more[k]
	}
	words := []string{}
	for _, s := range []string{string(Urgent), string(Warning), string(Info), over} {
		if count[s] > 0 {
			words = append(words, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	subject := fmt.Sprintf("[digest] %d events: %s", total, strings.Join(words, ", "))
	if total == 1 {
		subject = "[" + label(events[0]) + "] " + oneLine(events[0].Title, maxLine)
	}
	said := strings.TrimPrefix(text.String(), "\n")
	return Message{ID: id(ids...), Subject: oneLine(subject, maxSubject), Time: now, Text: said + footer(c), Body: body("digest", now, subject+"\n\n"+said, in)}
}

// over is the label of what ended.
const over = "over"

// weight orders what is in a digest: what is over comes last.
func weight(e Event) int {
	if e.Ends {
		return -1
	}
	return e.Level().Rank()
}

func label(e Event) string {
	if e.Ends {
		return over
	}
	return string(e.Level())
}

func facts(text *strings.Builder, e Event) {
	all := e.Facts
	if len(all) > maxFacts {
		all = all[:maxFacts]
	}
	width := 0
	for _, f := range all {
		width = max(width, len([]rune(oneLine(f.Name, 40))))
	}
	for i, f := range all {
		if i == 0 {
			text.WriteString("\n")
		}
		name := oneLine(f.Name, 40)
		fmt.Fprintf(text, "  %s%s  %s\n", name, strings.Repeat(" ", width-len([]rune(name))), oneLine(f.Value, maxLine))
	}
	if more := len(e.Facts) - len(all); more > 0 {
		fmt.Fprintf(text, "  and %d more\n", more)
	}
}

func footer(c Channel) string {
	return "\n-- \nTsugi, channel " + oneLine(c.Name, maxName) + "\n"
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// link is a page of the console. A path that would lead elsewhere is none.
func link(base, path string) string {
	if base == "" || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\ \r\n\t") {
		return ""
	}
	return strings.TrimSuffix(base, "/") + path
}

// id names things by what they are made of, so that making one twice makes the
// same.
func id(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return "msg_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// payload is the JSON of a webhook, as Standard Webhooks frames it. Text is for
// chat programs, whose webhooks show a field of that name.
type payload struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`
	Text      string `json:"text"`
}

type eventWire struct {
	ID       string   `json:"id"`
	Kind     Kind     `json:"kind"`
	Severity Severity `json:"severity"`
	Time     string   `json:"time"`
	Subject  string   `json:"subject"`
	Title    string   `json:"title"`
	Facts    []Fact   `json:"facts,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	Link     string   `json:"link,omitempty"`
	Ends     bool     `json:"ends,omitempty"`
	Held     int      `json:"held,omitempty"`
}

type digestWire struct {
	Events []eventWire  `json:"events"`
	More   map[Kind]int `json:"more,omitempty"`
}

func wire(e Event, base string) eventWire {
	w := eventWire{
		ID: e.ID, Kind: e.Kind, Severity: e.Level(), Time: e.Time.UTC().Format(time.RFC3339), Subject: e.Subject, Title: oneLine(e.Title, maxLine),
		Groups: e.Groups, Link: link(base, e.Path), Ends: e.Ends,
	}
	for _, f := range e.Facts[:min(len(e.Facts), maxFacts)] {
		w.Facts = append(w.Facts, Fact{Name: oneLine(f.Name, 40), Value: oneLine(f.Value, maxLine)})
	}
	return w
}

// chat keeps what machines and people call things from being read as markup:
// <!channel> would call everybody.
func chat(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func body(kind string, at time.Time, said string, data any) []byte {
	b, err := json.Marshal(payload{
		Type: kind, Timestamp: at.UTC().Format(time.RFC3339), Data: data, Text: chat(strings.TrimRight(said, "\n")),
	})
	if err != nil {
		panic(err) // strings, numbers and maps of them
	}
	return b
}
