// SPDX-License-Identifier: Apache-2.0

package code

// TS76xx the API: machines, tokens, tiers, operators.
func server() []Entry {
	return []Entry{
		{"TS7601", KindError, "the request is not understood", "see docs/openapi.yaml for what this operation takes; update the older of the two programs"},
		{"TS7602", KindError, "the enrolment word is not understood", "copy the whole word that tsugictl token new printed"},
		{"TS7603", KindError, "not authorised", "give a credential that this server knows: tsugictl login URL --token …, or tsugi enroll on a machine"},
		{"TS7605", KindError, "there is no such thing on the server", "list what there is, and check the name"},
		{"TS7606", KindError, "the server does not do that here", "check the address; see docs/openapi.yaml for the methods of each path"},
		{"TS7607", KindError, "the request is too large", "send less: the limit is in the message"},
		{"TS7608", KindError, "too many requests", "wait as long as Retry-After says"},
		{"TS7609", KindError, "the server has a defect", "look at the server's log for this request, and report it"},
		{"TS7610", KindError, "the server cannot answer now", "try again; look at the server's log and at /readyz if it lasts"},
		{"TS7611", KindError, "that is in conflict with what the server has", "look at what there is and decide anew"},
		{"TS7612", KindError, "the server could not be reached", "check the address, the network and the proxy; tsugi and tsugictl go on trying where they can"},
		{"TS7613", KindError, "the server's certificate is not the one that was pinned", "if the server got a new CA, log in or enrol again with its new word; if not, somebody is in between"},
		{"TS7614", KindError, "the server's answer is not understood", "check that the address is a tsugi-server's, and update the older of the two programs"},
		{"TS7615", KindError, "no server was chosen", "tsugictl login URL chooses one; tsugi-server init prints the first operator's token"},
		{"TS7616", KindError, "the build did not come to its end", "see tsugictl job log; queue it again"},
		{"TS7621", KindError, "the enrolment token is not valid", "ask for another token: tsugictl token new; machines that are enrolled already stay enrolled"},
		{"TS7622", KindError, "the limit of machines is reached", "remove machines that are gone (tsugictl machine rm), or raise the limit of the token or of the plan"},
		{"TS7623", KindError, "this machine is not enrolled any more", "enrol it again: tsugi enroll"},
	}
}
