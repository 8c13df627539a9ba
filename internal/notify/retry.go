// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Stage is where a delivery stands.
type Stage string

// The stages.
const (
	Waiting   Stage = "waiting"
	Delivered Stage = "delivered"
	Dead      Stage = "dead" // given up: see Problem
)

// Delivery is a message on its way to one address of a channel.
type Delivery struct {
	ID      string        `json:"id"`
	Channel string        `json:"channel"` // Channel.ID
	To      string        `json:"to"`
	Message Message       `json:"message"`
	Stage   Stage         `json:"stage"`
	Attempt int           `json:"attempt"` // made so far
	Made    time.Time     `json:"made"`
	Next    time.Time     `json:"next,omitzero"` // when it is tried, of one that waits
	Ended   time.Time     `json:"ended,omitzero"`
	Problem *code.Problem `json:"problem,omitempty"` // of the last attempt
}

// Deliveries are those of a message: one for each address.
func Deliveries(c Channel, m Message, now time.Time) []Delivery {
	out := make([]Delivery, len(c.To))
	for i, to := range c.To {
		out[i] = Delivery{ID: id("v", m.ID, to), Channel: c.ID, To: to, Message: m, Stage: Waiting, Made: now, Next: now}
	}
	return out
}

// Outcome is how an attempt ended. The zero value is that it was delivered.
type Outcome struct {
	Problem *code.Problem
	// Final says that another attempt would end the same way.
	Final bool
	// After is how long the receiver wants to be left alone.
	After time.Duration
}

// delays are between attempts; the last goes on until giveUp.
func delays() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour,
	}
}

const (
	// GiveUp is how long a message is worth delivering.
	GiveUp = 24 * time.Hour
	// mostAfter bounds what a receiver may ask for.
	mostAfter = 6 * time.Hour
)

// After is the delivery after an attempt: done, given up, or waiting for the
// next attempt, later each time, and for each delivery a little apart from the
// others.
func (d Delivery) After(o Outcome, now time.Time) Delivery {
	d.Attempt++
	d.Problem, d.Next = o.Problem, time.Time{}
	if o.Problem == nil {
		d.Stage, d.Ended = Delivered, now
		return d
	}
	all := delays()
	wait := all[min(d.Attempt, len(all))-1]
	wait += time.Duration(float64(wait) * (d.spread() - .5) * .4) // ±20 %
	wait = max(wait, min(o.After, mostAfter))
	if o.Final || now.Add(wait).Sub(d.Made) > GiveUp {
		d.Stage, d.Ended = Dead, now
		return d
	}
	d.Stage, d.Next = Waiting, now.Add(wait)
	return d
}

// spread is a number from 0 to 1 that hangs on the delivery and the attempt.
func (d Delivery) spread() float64 {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %d", d.ID, d.Attempt))
	return float64(binary.BigEndian.Uint32(h[:])) / (1 << 32)
}
