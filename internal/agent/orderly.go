// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"sync"
	"time"
)

const bootsName = "boots.json"

// Boots says how the boots of this machine ended, as far as that matters to its
// server: in boots.json. The agent can't see a crash; it sees that nobody told
// it to end before.
type Boots struct {
	Boot string `json:"boot"` // the last one that the agent started in
	// Orderly says that each boot between the last one that the server had heard of
	// and this one ended in good order.
	Orderly bool `json:"orderly,omitempty"`
	Told    bool `json:"told,omitempty"`  // the server has heard of this one
	Ended   bool `json:"ended,omitempty"` // this one was ended in good order
}

// next are the boots when the agent starts in one.
func (b Boots) next(boot string) Boots {
	if b.Boot == boot {
		b.Ended = false // whatever was said, it goes on
		return b
	}
	return Boots{Boot: boot, Orderly: b.Ended && (b.Told || b.Orderly)}
}

// boots keeps boots.json. What can't be written down is not said either: a boot
// that counts as a crash does less harm than a crash that counts as none.
type boots struct {
	mu  sync.Mutex
	now Boots
}

// arrive takes note of the boot that the agent starts in, before anything is
// loaded that could end it.
func (a *Agent) arrive(h *Host) {
	a.boots.mu.Lock()
	defer a.boots.mu.Unlock()
	var was Boots
	b, err := a.disk.ReadFile(bootsName)
	if err == nil {
		err = json.Unmarshal(b, &was)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("how the last boot ended is not known", "err", err)
		}
		was = Boots{}
	}
	a.boots.now = Boots{}
	if next := was.next(h.BootID); next == was || a.putBoots(next) {
		a.boots.now = next
	}
}

// arrived reports whether the machine came to this boot in good order.
func (a *Agent) arrived(h *Host) bool {
	a.boots.mu.Lock()
	defer a.boots.mu.Unlock()
	return a.boots.now.Boot == h.BootID && a.boots.now.Orderly
}

// told takes note that the server has heard of this boot.
func (a *Agent) told(h *Host) {
	a.boots.mu.Lock()
	defer a.boots.mu.Unlock()
	if next := a.boots.now; next.Boot == h.BootID && !next.Told {
		next.Told = true
		if a.putBoots(next) {
			a.boots.now = next
		}
	}
}

// leave takes note that the machine goes down in good order, if it does: a
// service that is stopped or started anew ends no boot.
func (a *Agent) leave(ctx context.Context) {
	if a.opts.GoesDown == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if !a.opts.GoesDown(ctx) {
		return
	}
	a.boots.mu.Lock()
	defer a.boots.mu.Unlock()
	if next := a.boots.now; next.Boot != "" {
		next.Ended = true
		if a.putBoots(next) {
			a.boots.now = next
		}
	}
}

func (a *Agent) putBoots(b Boots) bool {
	text, err := json.Marshal(b)
	if err == nil {
		err = a.disk.WriteFile(bootsName, text)
	}
	if err != nil {
		a.log.Warn("how this boot ends will not be known", "err", err)
	}
	return err == nil
}
