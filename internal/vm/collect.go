// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// collector gathers what the two serial ports say.
type collector struct {
	cfg   *Config
	start time.Time
	out   *Outcome
	bye   func()
	heard func(wire.Event)
	ended bool
	kept  int
}

func (c *collector) readConsole(r io.Reader) {
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.LimitReader(r, maxConsole))
	_, _ = io.Copy(io.Discard, r)
	c.out.Console = strings.ReplaceAll(b.String(), "\r\n", "\n")
}

func (c *collector) readEvents(r io.Reader) {
	er := wire.NewReader(r)
	parts := dumps{}
	for {
		e, err := er.Next()
		if err != nil {
			break
		}
		c.event(e, parts)
	}
	parts.finish(c.out.Dumps)
	c.out.Lost = er.Lost
}

func (c *collector) event(e *wire.Event, parts dumps) {
	if c.cfg.OnEvent != nil {
		c.cfg.OnEvent(*e)
	}
	c.heard(*e)
	if c.kept += len(e.Data) + len(e.Error); c.kept > maxEvents && e.Kind != wire.Bye && e.Kind != wire.Done {
		return
	}
	switch e.Kind {
	case wire.Hello:
		var g wire.Greeting
		if json.Unmarshal(e.Data, &g) == nil && c.out.Greeting == nil {
			c.out.Greeting, c.out.Boot = &g, time.Since(c.start)
		}
	case wire.Log:
		var r wire.Record
		if json.Unmarshal(e.Data, &r) == nil {
			c.out.Log = append(c.out.Log, LogLine{Step: e.Step, Record: r})
		}
		return
	case wire.Dump:
		parts.add(e.Data)
		return
	case wire.Bye:
		if !c.ended {
			c.bye()
		}
		c.ended = true
	}
	c.out.Events = append(c.out.Events, *e)
}

func readTar(f *os.File, into map[string][]byte) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Size > maxDump {
			return fmt.Errorf("dump %s: %d bytes, more than %d", h.Name, h.Size, maxDump)
		}
		b, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		into[h.Name] = b
	}
}
