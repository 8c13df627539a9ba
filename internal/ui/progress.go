// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/charmbracelet/colorprofile"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/tsugi-project/tsugi/internal/progress"
)

// patience is how long a stage may be silent where there are no bars.
const patience = 20 * time.Second

// Progress is a reporter that shows stages on standard error: bars and
// spinners on a terminal, elsewhere one line for each stage that ended. The
// line says how long the stage took.
func (t *Terminal) Progress() progress.Reporter {
	if t.opts.Quiet || t.opts.JSON {
		return progress.Discard
	}
	return t.meter
}

// Close ends all bars, so that what comes next starts on a clean line.
func (t *Terminal) Close() { t.meter.close() }

// meter owns the bars. The container of bars lives only while a task is open,
// so that results never fight it for the cursor.
type meter struct {
	term *Terminal
	mu   sync.Mutex
	bars *mpb.Progress
	open map[*task]bool
}

func newMeter(t *Terminal) *meter { return &meter{term: t, open: map[*task]bool{}} }

type task struct {
	meter *meter
	name  string
	start time.Time
	bar   *mpb.Bar // nil where there are no bars
	pulse *time.Timer
	mu    sync.Mutex
	note  string
	done  bool
}

func (m *meter) Start(stage string, total int64, unit progress.Unit) progress.Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := &task{meter: m, name: stage, start: time.Now()}
	m.open[k] = true
	if !m.term.live {
		k.pulse = time.AfterFunc(patience, k.still)
		return k
	}
	if m.bars == nil {
		m.bars = mpb.New(mpb.WithOutput(raw(m.term.stderr)), mpb.WithAutoRefresh(), mpb.WithWidth(24), mpb.WithRefreshRate(120*time.Millisecond))
	}
	k.bar = m.bars.MustAdd(total, k.filler(total), k.decorators(total, unit)...)
	return k
}

func (k *task) filler(total int64) mpb.BarFiller {
	if total > 0 {
		return mpb.BarStyle().Lbound("").Rbound("").Filler("━").Tip("━").Padding("─").Build()
	}
	return mpb.NopStyle().Build()
}

func (k *task) decorators(total int64, unit progress.Unit) []mpb.BarOption {
	var counters decor.Decorator
	switch {
	case total > 0 && unit == progress.Bytes:
		counters = decor.Counters(decor.SizeB1000(0), " % .1f / % .1f")
	case total > 0:
		counters = decor.CountersNoUnit(" %d / %d")
	default:
		counters = decor.Name("")
	}
	return []mpb.BarOption{
		mpb.BarRemoveOnComplete(),
		mpb.PrependDecorators(
			decor.Spinner([]string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}),
			decor.Name(" "+k.name+"  ", decor.WCSyncSpaceR),
		),
		mpb.AppendDecorators(
			counters,
			decor.Any(func(decor.Statistics) string {
				s := "  " + Span(time.Since(k.start))
				if n := k.noteText(); n != "" {
					s += "  " + n
				}
				return Dim(s)
			}),
		),
	}
}

// still tells a log reader that a long stage is alive.
func (k *task) still() {
	k.mu.Lock()
	if k.done {
		k.mu.Unlock()
		return
	}
	k.pulse.Reset(patience)
	k.mu.Unlock()
	line := fmt.Sprintf("… %s  %s", k.name, Span(time.Since(k.start)))
	if n := k.noteText(); n != "" {
		line += "  " + n
	}
	k.meter.above(line)
}

func (k *task) noteText() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.note
}

func (k *task) Add(n int64) {
	if k.bar != nil {
		k.bar.IncrInt64(n)
	}
}

func (k *task) Note(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.note = text
}

func (k *task) Done(err error) {
	k.mu.Lock()
	if k.done {
		k.mu.Unlock()
		return
	}
	k.done = true
	if k.pulse != nil {
		k.pulse.Stop()
	}
	k.mu.Unlock()
	mark := Good("✓")
	if err != nil {
		mark = Bad("✗")
	}
	line := fmt.Sprintf("%s %-38s %s", mark, k.name, Dim(fmt.Sprintf("%9s", Span(time.Since(k.start)))))
	if n := k.noteText(); n != "" && err == nil {
		line += Dim("  " + n)
	}
	k.meter.above(line)
	k.meter.end(k)
}

func (m *meter) end(k *task) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.open, k)
	if k.bar != nil {
		k.bar.Abort(true)
	}
	if len(m.open) == 0 && m.bars != nil {
		m.bars.Wait()
		m.bars = nil
	}
}

// above writes a line to standard error, over the bars if there are any.
func (m *meter) above(line string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bars != nil {
		var b bytes.Buffer
		w := &colorprofile.Writer{Forward: &b, Profile: colorprofile.Detect(raw(m.term.stderr), m.term.environ)}
		io.WriteString(w, clean(line)+"\n")
		if _, err := m.bars.Write(b.Bytes()); err == nil {
			return
		}
	}
	m.term.write(m.term.stderr, line)
}

func (m *meter) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k := range m.open {
		k.mu.Lock()
		k.done = true
		if k.pulse != nil {
			k.pulse.Stop()
		}
		k.mu.Unlock()
		if k.bar != nil {
			k.bar.Abort(true)
		}
	}
	clear(m.open)
	if m.bars != nil {
		m.bars.Wait()
		m.bars = nil
	}
}
