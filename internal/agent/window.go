// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"github.com/tsugi-project/tsugi/internal/window"
)

// Window is a time of the week. Its hours are of the configured zone.
type Window = window.Window

// InWindow reports whether changes may be made now.
func (c *Config) InWindow(now time.Time) bool {
	zone, err := c.location()
	return err == nil && window.Open(c.Windows, now.In(zone))
}

// NextWindow is when the next window opens, or the zero time without windows.
func (c *Config) NextWindow(now time.Time) time.Time {
	zone, err := c.location()
	if err != nil {
		return time.Time{}
	}
	return window.Next(c.Windows, now.In(zone))
}
