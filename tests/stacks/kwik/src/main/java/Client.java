import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.time.Duration;
import java.util.Arrays;
import java.util.HexFormat;
import tech.kwik.core.QuicClientConnection;
import tech.kwik.core.QuicStream;

/** kwik as a client of the harness; README.md beside the harness has the lines it speaks. */
public class Client {
    private static final HexFormat HEX = HexFormat.of();

    public static void main(String[] arguments) throws Exception {
        String port = arguments[0].substring(arguments[0].lastIndexOf(':') + 1);
        QuicClientConnection connection = QuicClientConnection.newBuilder()
                .uri(URI.create("quic://localhost:" + port))
                .applicationProtocol("x-im/1")
                .maxIdleTimeout(Duration.ofMinutes(2))
                .maxOpenPeerInitiatedUnidirectionalStreams(3)
                // Its own check takes each key for an RSA one, and wants an extension of such: ours are of P-256.
                .noServerCertificateCheck()
                .preferIPv4()
                .build();
        connection.setPeerInitiatedStreamCallback(stream -> show("uni", stream));
        connection.setConnectionListener(event -> say("closed " + event.applicationErrorCode()));
        connection.connect();
        say("connected");
        QuicStream stream = connection.createStream(true);
        show("bidi", stream);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null && !line.equals("quit"); line = lines.readLine()) {
            stream.getOutputStream().write(HEX.parseHex(line.substring("send ".length())));
            stream.getOutputStream().flush();
        }
        connection.close(0, "bye");
        System.exit(0);
    }

    private static void show(String kind, QuicStream stream) {
        Thread reader = new Thread(() -> {
            byte[] buffer = new byte[1 << 16];
            try {
                for (int n = stream.getInputStream().read(buffer); n >= 0; n = stream.getInputStream().read(buffer)) {
                    say(kind + " " + HEX.formatHex(Arrays.copyOf(buffer, n)));
                }
            } catch (IOException closed) {
                // The connection ended; its listener says how.
            }
        });
        reader.setDaemon(true);
        reader.start();
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
