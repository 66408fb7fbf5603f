"""A mail server to be delivered to: aiosmtpd, with STARTTLS or TLS and a login as asked for.

Keeps each mail as NUMBER.eml in FOLDER, its envelope in front as X-MailFrom and X-RcptTo. Says its port on the first line of
its standard output, and ends with its standard input.
"""

import argparse
import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

arguments = argparse.ArgumentParser()
arguments.add_argument("folder")
arguments.add_argument("--tls", choices=["none", "starttls", "tls"], default="none")
arguments.add_argument("--certificate")
arguments.add_argument("--key")
arguments.add_argument("--user")
arguments.add_argument("--password")
arguments = arguments.parse_args()


class Keeper:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("unknown@"):
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        Keeper.count += 1
        lines = [f"X-MailFrom: {envelope.mail_from}", *(f"X-RcptTo: {to}" for to in envelope.rcpt_tos)]
        name = os.path.join(arguments.folder, f"{Keeper.count:04}.eml")
        with open(name + ".part", "wb") as file:
            file.write("".join(line + "\r\n" for line in lines).encode() + envelope.original_content)
        os.rename(name + ".part", name)
        return f"250 2.0.0 Kept as {Keeper.count}"


def authenticator(server, session, envelope, mechanism, data):
    right = (data.login, data.password) == (arguments.user.encode(), arguments.password.encode())
    return AuthResult(success=right, handled=False)


async def serve():
    context = None
    if arguments.tls != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate, arguments.key)
    starttls = context if arguments.tls == "starttls" else None

    def session():
        login = {}
        if arguments.user:
            login = {"authenticator": authenticator, "auth_required": True, "auth_require_tls": arguments.tls == "starttls"}
        return SMTP(
            Keeper(), hostname="mail.test", tls_context=starttls, require_starttls=starttls is not None,
            data_size_limit=None, **login,
        )

    implicit = context if arguments.tls == "tls" else None
    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=implicit)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(serve())
