// SPDX-License-Identifier: Apache-2.0

package jobs

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// maxLog bounds the log of one attempt. What comes after it is counted and not
// kept.
const maxLog = 4 << 20

// Log is the log of an attempt while it is written: lines are gathered and
// sent in pieces, in order, as often as it takes. It is a progress.Reporter:
// each stage is a line when it starts and one when it ends.
type Log struct {
	job     string
	worker  string
	attempt int
	now     func() time.Time

	mu      sync.Mutex
	text    strings.Builder // not in a piece yet
	pieces  []api.JobLog    // not acknowledged yet, in order
	seq     int
	size    int
	dropped int
	stage   string
	ready   chan struct{} // has room for one: there is something to send

	sending sync.Mutex // one sender at a time keeps the order
}

func newLog(l *api.Lease, worker string, now func() time.Time) *Log {
	return &Log{job: l.Job, worker: worker, attempt: l.Attempt, seq: l.LogFrom, now: now, ready: make(chan struct{}, 1)}
}

// Printf writes a line.
func (l *Log) Printf(format string, args ...any) {
	line := l.now().UTC().Format("15:04:05 ") + strings.TrimRight(fmt.Sprintf(format, args...), "\n") + "\n"
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+len(line) > maxLog {
		l.dropped++
		return
	}
	l.size += len(line)
	l.text.WriteString(line)
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// Problem writes a problem as people read it.
func (l *Log) Problem(p *code.Problem) {
	l.Printf("%s", p.Error())
	if p.Fix != "" {
		l.Printf("  → %s", p.Fix)
	}
}

// Stage is what is being done, for the list of jobs.
func (l *Log) Stage() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stage
}

// Start opens a stage.
func (l *Log) Start(stage string, total int64, unit progress.Unit) progress.Task {
	l.mu.Lock()
	l.stage = stage
	l.mu.Unlock()
	if total > 0 && unit == progress.Files {
		l.Printf("%s: %d files", stage, total)
	} else {
		l.Printf("%s", stage)
	}
	return &logTask{log: l, stage: stage, start: l.now()}
}

type logTask struct {
	log   *Log
	stage string
	start time.Time
}

func (t *logTask) Add(int64)   {}
func (t *logTask) Note(string) {}

func (t *logTask) Done(err error) {
	took := t.log.now().Sub(t.start).Round(100 * time.Millisecond)
	if err != nil {
		t.log.Printf("%s: stopped after %s", t.stage, took)
		return
	}
	t.log.Printf("%s: done in %s", t.stage, took)
}

// cut moves what was written into pieces.
func (l *Log) cut() {
	if l.dropped > 0 {
		fmt.Fprintf(&l.text, "%d more lines are left out: the log of a job may be %d MiB\n", l.dropped, maxLog>>20)
		l.dropped = 0
	}
	text := l.text.String()
	l.text.Reset()
	for text != "" {
		n := min(len(text), api.MaxJobLog)
		if n < len(text) { // between lines, if there is an end of one
			if i := strings.LastIndexByte(text[:n], '\n'); i > 0 {
				n = i + 1
			}
		}
		l.seq++
		l.pieces = append(l.pieces, api.JobLog{Worker: l.worker, Attempt: l.attempt, Seq: l.seq, Text: text[:n]})
		text = text[n:]
	}
}

// send delivers what there is. On an error the rest stays for the next time.
func (l *Log) send(ctx context.Context, b Backend) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	for {
		l.mu.Lock()
		if len(l.pieces) == 0 {
			l.cut()
		}
		if len(l.pieces) == 0 {
			l.mu.Unlock()
			return nil
		}
		piece := l.pieces[0]
		l.mu.Unlock()
		if err := b.AppendLog(ctx, l.job, piece); err != nil {
			return err
		}
		l.mu.Lock()
		l.pieces = l.pieces[1:]
		l.mu.Unlock()
	}
}

// stream delivers until ctx ends. Errors are no reason to stop: either the
// lease is lost, which ends the job anyway, or the server comes back.
func (l *Log) stream(ctx context.Context, b Backend, pause time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.ready:
		}
		if l.send(ctx, b) != nil {
			select { // there is still something to send
			case l.ready <- struct{}{}:
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
