// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"os"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestSaid: the end of what a program says is kept, and no more.
func TestSaid(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	qt.Assert(t, qt.IsNil(err))
	var s said
	done := make(chan struct{})
	go func() {
		s.listen(read)
		close(done)
	}()
	_, err = write.WriteString(strings.Repeat("x", 3*mostSaid) + "\nthe\xff end\n\n")
	qt.Assert(t, qt.IsNil(err))
	write.Close()
	<-done
	qt.Check(t, qt.IsTrue(strings.HasSuffix(s.String(), "x\nthe? end")), qt.Commentf("%s", s.String()))
	qt.Check(t, qt.IsTrue(len(s.String()) <= mostSaid))
	qt.Check(t, qt.Equals(saying(&subject{said: &said{}}), ""))
}

// TestLongCommands: a message names a program and does not recite it.
func TestLongCommands(t *testing.T) {
	t.Parallel()
	line := "/usr/sbin/nginx -g 'daemon off; " + strings.Repeat("größe 1; ", 100) + "'"
	s := &subject{name: line, said: &said{last: []byte("no such file")}, asked: true}
	g := &stage{subjects: []*subject{s}}
	qt.Check(t, qt.Equals(g.lastWords(), "; /usr/sbin/nginx -g 'daemon off; größe 1; größe 1; größe 1; …, and says: no such file"))
	qt.Check(t, qt.Equals(Short("/bin/true"), "/bin/true"))
}
