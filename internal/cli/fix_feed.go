// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/ui"
)

func newFixFeedCommand(a *app) *cobra.Command {
	var place fixChoice
	var skipBad bool
	cmd := &cobra.Command{
		Use:   "feed SOURCE...",
		Short: "Import what feeds tell of CVEs",
		Long: `feed reads CVE records (CVE JSON 5), OSV records and CISA's catalogue of known
exploited vulnerabilities, from files, directories, zip archives or http(s)
addresses of a mirror. Severities, known-exploited flags and the commits that
fixed a CVE follow from them wherever fixes are shown, chosen or imported. A
record that can't be understood stops the import and nothing is kept, unless
--skip-bad leaves it out.`,
		Example: `  tsugictl fix feed known_exploited_vulnerabilities.json
  tsugictl fix feed cvelistV5/cves/2026 https://mirror.example/osv/Linux/all.zip`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cat, _, err := a.catalogue(place.catalogue)
			if err != nil {
				return err
			}
			client := &http.Client{Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: 2 * time.Minute,
			}}
			r, err := cat.Feed(cmd.Context(), client, args, skipBad, a.Progress())
			if err != nil {
				return err
			}
			return a.Show("feed", r, func() string {
				text := fmt.Sprintf("%s %s read: %d new, %d changed, %d known to be exploited\n",
					ui.Good("✓"), ui.Count(r.Read, "record"), r.Added, r.Changed, r.Exploited)
				for _, p := range r.Bad {
					text += ui.Warn("left out") + "  " + p.Error() + "\n"
				}
				return text
			})
		},
	}
	place.place(cmd)
	cmd.Flags().BoolVar(&skipBad, "skip-bad", false, "leave out and name what can't be understood, instead of keeping nothing")
	return cmd
}
