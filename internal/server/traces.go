// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/sha256"
	"encoding/binary"
)

// traces remember which boots, and which runs of the agent within one boot, a
// machine spoke of last. A machine never goes back to a former boot, nor an
// agent to a former run: when they are spoken of in turn, two machines, or two
// agents, use one identity.
//
// One step back is not enough to say so: a request that a proxy held up may
// come in after the reboot that followed it. Two are.
type traces struct {
	boots, runs [3]trace // the latest first
	backs       uint8
}

type trace struct {
	name uint32 // of the boot or run; 0: none
	here bool   // this server heard of it itself
}

// heard notes the boot and the run that a check-in speaks of, and reports
// whether the identity is used twice.
func (t *traces) heard(boot, run string) bool {
	back, changed := note(&t.boots, boot, true)
	if changed {
		t.runs = [3]trace{}
	}
	again, _ := note(&t.runs, run, true)
	if back || again {
		t.backs++
	}
	if t.backs >= 2 {
		t.backs = 2
		return true
	}
	return false
}

// elsewhere notes the boot that the store has: the one that this server wrote
// there, or what another server heard. The store lags behind what this server
// hears, so a boot that it heard of itself says nothing new.
func (t *traces) elsewhere(boot string) {
	if _, changed := note(&t.boots, boot, false); changed {
		t.runs = [3]trace{}
	}
}

// note puts a name before the others. back: it was there, and not the first.
func note(ring *[3]trace, s string, here bool) (back, changed bool) {
	h := sha256.Sum256([]byte(s))
	now := trace{name: binary.LittleEndian.Uint32(h[:]) | 1, here: here}
	at := -1
	for i, old := range ring {
		if old.name == now.name {
			at = i
			now.here = now.here || old.here
			if !here && old.here {
				return false, false
			}
			break
		}
	}
	if at == 0 {
		ring[0] = now
		return false, false
	}
	end := at
	if at < 0 {
		end = len(ring) - 1
	}
	copy(ring[1:end+1], ring[:end])
	ring[0] = now
	return at > 0 && here, true
}
