// SPDX-License-Identifier: Apache-2.0

// Package cve reads what public feeds tell of vulnerabilities: CVE records
// (CVE JSON 5, those of the kernel's CNA with its commits among them), OSV
// records and CISA's catalogue of known exploited vulnerabilities (KEV). In
// goes the text of a feed, out come Records. It is pure.
//
// Formats: https://github.com/CVEProject/cve-schema (version 5),
// https://ossf.github.io/osv-schema/ and CISA's KEV JSON. CVSS 3.0, 3.1 and
// 4.0 vectors give base scores and severities as FIRST defines them.
package cve
