// SPDX-License-Identifier: Apache-2.0

// Package progress lets packages tell how far they are without knowing
// whether a terminal, a log or a server listens.
package progress

// Unit is what a task counts.
type Unit string

const (
	Steps Unit = "steps"
	Bytes Unit = "bytes"
	Files Unit = "files"
)

// Reporter opens tasks. Implementations are safe for concurrent use.
type Reporter interface {
	// Start opens a task. A total of 0 means that it is not known.
	Start(stage string, total int64, unit Unit) Task
}

// Task is one stage under way. Done is called exactly once.
type Task interface {
	Add(n int64)
	Note(text string) // a short word on what is being done now
	Done(err error)
}

// Discard listens to nothing.
var Discard Reporter = discard{}

type discard struct{}

func (discard) Start(string, int64, Unit) Task { return discard{} }
func (discard) Add(int64)                      {}
func (discard) Note(string)                    {}
func (discard) Done(error)                     {}
