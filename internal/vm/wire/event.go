// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/tsugi-project/tsugi/internal/strict"
)

// Kind tells what an event is about.
type Kind string

// The kinds of events. A guest that runs to its end sends one Hello first and
// one Bye last.
const (
	Hello Kind = "hello" // Data is a Greeting
	Begin Kind = "begin" // a step starts
	Done  Kind = "done"  // a step ended; Error, Errno and Data (the verb's result) tell how
	Log   Kind = "log"   // a kernel log record, and the step that was under way; Data is a Record
	Dump  Kind = "dump"  // a part of a dump; Data is a Chunk
	Note  Kind = "note"  // Data is a string for the reader of the log
	Bye   Kind = "bye"   // the plan ended and the guest powers off
)

// Event is one line from the guest.
type Event struct {
	Seq   uint64 `json:"seq"`  // counts from 1; a gap means that lines were lost
	Time  int64  `json:"time"` // ns of CLOCK_MONOTONIC, which starts with the guest kernel
	Kind  Kind   `json:"kind"`
	Step  string `json:"step,omitempty"`
	Error string `json:"error,omitempty"`
	// Errno names the system error behind Error, such as "EBUSY".
	Errno string          `json:"errno,omitempty"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// Greeting is what the guest sees of itself before the plan starts.
type Greeting struct {
	Format  int    `json:"format"`
	Release string `json:"release"`  // uname -r
	Version string `json:"version"`  // /proc/version
	BuildID string `json:"build_id"` // GNU build-id from /sys/kernel/notes, hex
	Cmdline string `json:"cmdline"`
	CPUs    int    `json:"cpus"`
	Taint   uint64 `json:"taint"` // /proc/sys/kernel/tainted
}

// Record is one record of /dev/kmsg.
type Record struct {
	Level int    `json:"level"` // syslog: 0 emergency to 7 debug
	Seq   uint64 `json:"kseq"`
	Time  int64  `json:"us"` // microseconds since boot as the kernel stamped it
	Text  string `json:"text"`
}

// Chunk is a part of a dumped file that was gzipped as a whole.
type Chunk struct {
	Name string `json:"name"`
	Gzip []byte `json:"gzip,omitempty"`
	End  bool   `json:"end,omitempty"`
	Size int64  `json:"size,omitempty"` // with End: bytes before compression
}

// MaxLine is the longest event line that is accepted.
const MaxLine = 4 << 20

// Reader takes events off a stream.
type Reader struct {
	r *bufio.Reader
	// Skipped counts bytes of lines that were not events.
	Skipped int64
	// Lost counts events that are missing from the sequence.
	Lost uint64
	seq  uint64
}

// NewReader reads events from r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

// Next returns the next event, or io.EOF when the stream ends. A last line
// with no line end is dropped: the writer died while it wrote it.
func (r *Reader) Next() (*Event, error) {
	for {
		line, err := r.line()
		if err != nil {
			return nil, err
		}
		if line == nil {
			continue
		}
		e, ok := parseEvent(line)
		if !ok {
			r.Skipped += int64(len(line)) + 1
			continue
		}
		if e.Seq > r.seq+1 {
			r.Lost += e.Seq - r.seq - 1
		}
		r.seq = max(r.seq, e.Seq)
		return e, nil
	}
}

// line returns one line without its end, or nil for one that is too long.
func (r *Reader) line() ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := r.r.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			r.Skipped += int64(len(line) + len(part))
			return nil, err
		}
		if long = long || len(line)+len(part) > MaxLine; long {
			r.Skipped += int64(len(line) + len(part))
			line = nil
		} else {
			line = append(line, part...)
		}
		if err == nil {
			break
		}
	}
	if long {
		return nil, nil
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// parseEvent accepts a line only when it is one event and nothing else.
func parseEvent(line []byte) (*Event, bool) {
	if len(line) == 0 || line[0] != '{' {
		return nil, false
	}
	var e Event
	if err := strict.JSON(line, &e); err != nil {
		return nil, false
	}
	switch e.Kind {
	case Hello, Begin, Done, Log, Dump, Note, Bye:
		return &e, e.Seq > 0
	}
	return nil, false
}
