/* Where credentials come from: the settings, a file in the form of ~/.aws/credentials, or the
 * environment, in this order. A place that names a key but no secret is a fault, not a reason to
 * look further. */
#include "backends/aws/aws_store.h"
#include "src/base/file.h"
#include "src/base/secret.h"
#include "src/base/slice.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { FILE_BYTES = 65536 };

static char *copy_of(struct slice text)
{
    char *copy;

    if (text.len == 0)
        return NULL;
    copy = malloc(text.len + 1);
    if (copy == NULL)
        abort();
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

void aws_login_clear(struct aws_login *login)
{
    free(login->access_key);
    secret_free(login->secret_key);
    secret_free(login->session_token);
    *login = (struct aws_login){0};
}

static struct slice trimmed(struct slice text)
{
    while (text.len > 0 && (*text.data == ' ' || *text.data == '\t'))
        text = slice_of(text.data + 1, text.len - 1);
    while (text.len > 0 && strchr(" \t\r", text.data[text.len - 1]) != NULL)
        text.len--;
    return text;
}

/* "name = value" */
static void take_line(struct aws_login *login, struct slice line)
{
    const uint8_t *equals = line.len > 0 ? memchr(line.data, '=', line.len) : NULL;
    struct slice name, value;
    char **to = NULL;

    if (equals == NULL)
        return;
    name = trimmed(slice_of(line.data, (size_t)(equals - line.data)));
    value = trimmed(slice_of(equals + 1, line.len - (size_t)(equals - line.data) - 1));
    if (slice_equal(name, slice_str("aws_access_key_id")))
        to = &login->access_key;
    else if (slice_equal(name, slice_str("aws_secret_access_key")))
        to = &login->secret_key;
    else if (slice_equal(name, slice_str("aws_session_token")))
        to = &login->session_token;
    if (to == NULL)
        return;
    secret_free(*to);
    *to = copy_of(value);
}

static void take_profile(struct aws_login *login, struct slice text, const char *profile)
{
    bool ours = false;

    while (text.len > 0) {
        const uint8_t *end = memchr(text.data, '\n', text.len);
        size_t len = end != NULL ? (size_t)(end - text.data) : text.len;
        struct slice line = trimmed(slice_of(text.data, len));

        if (line.len >= 2 && line.data[0] == '[' && line.data[line.len - 1] == ']')
            ours = slice_equal(trimmed(slice_of(line.data + 1, line.len - 2)), slice_str(profile));
        else if (ours && line.len > 0 && line.data[0] != '#' && line.data[0] != ';')
            take_line(login, line);
        len += end != NULL;
        text = slice_of(text.data + len, text.len - len);
    }
}

static struct err read_file(struct aws_login *login, const char *path, const char *profile)
{
    char *text = malloc(FILE_BYTES + 1);
    ssize_t n;

    if (text == NULL)
        abort();
    n = file_read(path, text, FILE_BYTES);
    if (n > 0)
        take_profile(login, slice_of(text, (size_t)n), profile);
    secret_wipe(text, FILE_BYTES + 1);
    free(text);
    if (n < 0)
        return err_about(ERR_INVALID_ARGUMENT, "credentials_file", "the file cannot be read");
    if (login->access_key == NULL || login->secret_key == NULL)
        return err_about(ERR_INVALID_ARGUMENT, "profile",
                         "credentials_file has no section of this name with aws_access_key_id and "
                         "aws_secret_access_key");
    return ERR_NONE;
}

static struct err read_environment(struct aws_login *login)
{
    login->access_key = copy_of(slice_str(getenv("AWS_ACCESS_KEY_ID")));
    login->secret_key = copy_of(slice_str(getenv("AWS_SECRET_ACCESS_KEY")));
    login->session_token = copy_of(slice_str(getenv("AWS_SESSION_TOKEN")));
    if (login->access_key != NULL && login->secret_key != NULL)
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "access_key_id",
                     "no credentials: neither here, nor in credentials_file, nor in "
                     "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
}

/* They become headers. */
static bool is_printable(const char *text)
{
    for (; text != NULL && *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~')
            return false;
    }
    return true;
}

struct err aws_login_read(struct aws_login *login, const struct backend_value *values)
{
    struct err err = ERR_NONE;

    *login = (struct aws_login){0};
    if (values[AWS_ACCESS_KEY].text[0] != '\0') {
        login->access_key = copy_of(slice_str(values[AWS_ACCESS_KEY].text));
        login->secret_key = copy_of(slice_str(values[AWS_SECRET_KEY].text));
        login->session_token = copy_of(slice_str(values[AWS_SESSION_TOKEN].text));
    } else if (values[AWS_CREDENTIALS_FILE].text[0] != '\0') {
        err = read_file(login, values[AWS_CREDENTIALS_FILE].text, values[AWS_PROFILE].text);
    } else {
        err = read_environment(login);
    }
    if (err.code == ERR_OK &&
        !(is_printable(login->access_key) && is_printable(login->secret_key) &&
          is_printable(login->session_token)))
        err = err_about(ERR_INVALID_ARGUMENT, "access_key_id",
                        "the credentials hold a space or a character that is not printable");
    if (err.code != ERR_OK)
        aws_login_clear(login);
    return err;
}
