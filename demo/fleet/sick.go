// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// falls says whether this machine goes down with a version: always the same
// ones, so that a story can be told twice.
func (m *machine) falls(version int) bool {
	if m.opts.sick == "" {
		return false
	}
	text, err := os.ReadFile(m.opts.sick)
	if err != nil {
		return false // nobody is sick yet
	}
	return luck(m.host, version) < shareOf(text, version)
}

// luck is a number from 0 to 1 that hangs on a machine and a version.
func luck(host string, version int) float64 {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %d", host, version))
	return float64(binary.BigEndian.Uint32(h[:])) / (1 << 32)
}

// shareOf is the share of the machines that go down with a version: the last
// line that is about it.
func shareOf(text []byte, version int) float64 {
	share := 0.0
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) != 2 || words[0] != "*" && words[0] != strconv.Itoa(version) {
			continue
		}
		if percent, err := strconv.ParseFloat(strings.TrimSuffix(words[1], "%"), 64); err == nil && percent >= 0 && percent <= 100 {
			share = percent / 100
		}
	}
	return share
}
