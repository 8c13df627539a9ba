// SPDX-License-Identifier: Apache-2.0

// Shows CVE-2026-45445 in a process that goes on running: EVP_Cipher() with
// AES-OCB does not look at the nonce, so two messages under different nonces have
// the same ciphertext. Each line on standard input is a question, each line on
// standard output the answer of the libcrypto that the process runs.
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

static int encrypt(unsigned char nonce, unsigned char *out)
{
	unsigned char key[16] = "sixteen byte key", iv[12] = {nonce}, text[16] = "attack at dawn!";
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	int ok = c && EVP_EncryptInit_ex(c, EVP_aes_128_ocb(), NULL, key, iv) > 0 && EVP_Cipher(c, out, text, sizeof text) > 0;
	EVP_CIPHER_CTX_free(c);
	return ok;
}

int main(void)
{
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		unsigned char a[64] = {0}, b[64] = {0};
		if (!encrypt(1, a) || !encrypt(2, b))
			puts("it does not encrypt");
		else
			puts(memcmp(a, b, 16) == 0 ? "vulnerable: two nonces, one ciphertext" : "fixed: two nonces, two ciphertexts");
		fflush(stdout);
	}
	return 0;
}
